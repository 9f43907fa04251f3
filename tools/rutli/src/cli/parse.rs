//! Values of flags, from text.

use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use rutli_release::{Class, Format, Sequence};

use super::files::Number;
use crate::{
    attest::limits::{MAX_SIZE, MIN_SIZE},
    log::limits::MIN_INTERVAL,
};

pub(super) fn class_parser() -> impl TypedValueParser<Value = Class> {
    PossibleValuesParser::new(Class::ALL.map(Class::as_str)).try_map(|word| word.parse::<Class>())
}

pub(super) fn format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(Format::as_str)).try_map(|word| word.parse::<Format>())
}

pub(super) fn parse_sequence(text: &str) -> Result<Sequence, String> {
    let number = text.parse::<u64>().map_err(|_| "give a number from 1 to 2^53-1".to_owned())?;
    Sequence::new(number).map_err(|error| error.to_string())
}

pub(super) fn parse_time(text: &str) -> Result<u64, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| "give a time as RFC 3339 has it, as 2027-11-21T10:00:00Z".to_owned())?;
    u64::try_from(time.as_second()).map_err(|_| "give a time after 1970".to_owned())
}

pub(super) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let duration: jiff::SignedDuration =
        text.parse().map_err(|_| "give a time as 90s, 10m or 2h".to_owned())?;
    std::time::Duration::try_from(duration).map_err(|_| "give a time above zero".to_owned())
}

pub(super) fn parse_interval(text: &str) -> Result<std::time::Duration, String> {
    match parse_duration(text)? {
        interval if interval < MIN_INTERVAL => Err("give a time of at least 1s".to_owned()),
        interval => Ok(interval),
    }
}

/// At least what the walls around a build need for themselves.
pub(super) fn parse_size(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(size) if (MIN_SIZE..=MAX_SIZE).contains(&size.as_u64()) => Ok(size),
        Ok(_) => Err(format!("give from {} to {}", ByteSize(MIN_SIZE), ByteSize(MAX_SIZE))),
        Err(_) => Err("give a size as 512MiB or 4GiB".to_owned()),
    }
}

/// As [`parse_duration`], or 0.
pub(super) fn parse_wait(text: &str) -> Result<std::time::Duration, String> {
    if text == "0" { Ok(std::time::Duration::ZERO) } else { parse_duration(text) }
}

/// A sequence, or `next`.
pub(super) fn parse_number(text: &str) -> Result<Number, String> {
    if text == "next" { Ok(Number::Next) } else { parse_sequence(text).map(Number::Given) }
}

/// `NAME=VALUE`.
pub(super) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("give NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn times_and_numbers_read() {
        assert_eq!(parse_duration("90s").unwrap().as_secs(), 90);
        assert_eq!(parse_duration("1h 30m").unwrap().as_secs(), 5400);
        assert!(parse_duration("-1s").is_err());
        assert!(parse_duration("soon").is_err());
        assert!(parse_wait("0").unwrap().is_zero() && parse_wait("0s").unwrap().is_zero());
        assert_eq!(parse_wait("2m").unwrap().as_secs(), 120);
        assert!(parse_wait("1").is_err());
        assert!(parse_interval("0s").is_err() && parse_interval("999ms").is_err());
        assert_eq!(parse_interval("1s").unwrap().as_secs(), 1);
        assert_eq!(parse_size("64MiB").unwrap().as_u64(), 64 << 20);
        assert_eq!(parse_size("1.5 GB").unwrap().as_u64(), 1_500_000_000);
        assert!(parse_size("much").is_err() && parse_size("1KiB").is_err() && parse_size("1EiB").is_err());
        let show = |limit| {
            Cli::try_parse_from(["rutli", "log", "show", "--log", "l", "--key", "k", "--limit", limit])
        };
        assert!(show("1").is_ok() && show("0").is_err());
        assert_eq!(parse_time("1970-01-02T00:00:00Z").unwrap(), 86_400);
        assert!(parse_time("1969-01-02T00:00:00Z").is_err());
        assert_eq!(parse_pair("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert!(parse_pair("=b").is_err() && parse_pair("a").is_err());
        assert_eq!(parse_number("next"), Ok(Number::Next));
        assert_eq!(parse_number("7"), Ok(Number::Given(Sequence::new(7).unwrap())));
        assert!(parse_number("0").is_err() && parse_number("last").is_err());
        assert!(parse_sequence("0").is_err());
        assert!(parse_sequence("9007199254740992").is_err());
        assert_eq!(parse_sequence("9007199254740991").unwrap().get(), (1 << 53) - 1);
    }
}
