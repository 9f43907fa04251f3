//! What the pipelines of a story ask for.

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng, seq::SliceRandom};
use rand_chacha::ChaCha20Rng;
use rutli_release::{
    Class, Format, ReleaseId, Requester, UnverifiedArtifact, UnverifiedRelease, VerifiedRelease,
};

use super::EPOCH;

/// Somebody who may ask, and whom no node permits anything.
pub const THIEF: &str = "thief";

/// What nodes permit: everything but the product `forbidden`, and what [`THIEF`] asks for.
pub const POLICY: &str = r#"
@id("suite")
permit (principal, action == Action::"sign", resource)
when { resource.class == Class::"product-build" && resource.product == "suite" && !context.embargoed && principal != Requester::"thief" };

@id("avdb")
permit (principal, action == Action::"sign", resource)
when { resource.class == Class::"av-database" && resource.product == "avdb" && !context.embargoed && principal != Requester::"thief" };
"#;

/// What a pipeline asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The coordinator's name of it.
    pub release_id: ReleaseId,
    /// Who asks.
    pub requester: Requester,
    /// What is asked.
    pub release: Arc<VerifiedRelease>,
}

/// Releases in the order in which they are asked for. Sequences go up in each channel, but now and then one comes again or
/// comes late; and the thief asks for any, up to the last one there is.
pub fn requests(rng: &mut ChaCha20Rng) -> Vec<Request> {
    let mut sequences: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    (0..rng.gen_range(6..16))
        .map(|number| {
            let (class, product) = *[
                (Class::ProductBuild, "suite"),
                (Class::ProductBuild, "suite"),
                (Class::AvDatabase, "avdb"),
                (Class::AvDatabase, "avdb"),
                (Class::AvDatabase, "avdb"),
                (Class::ProductBuild, "forbidden"),
            ]
            .choose(rng)
            .unwrap();
            let channel = *["stable", "beta"].choose(rng).unwrap();
            let newest = sequences.entry((product, channel)).or_default();
            let (requester, sequence) = match rng.gen_range(0..12) {
                0 => (THIEF, (1 << 53) - 1),
                1 => (THIEF, *newest + 1),
                2 => ("ci", newest.saturating_sub(rng.gen_range(0..2)).max(1)),
                _ => ("ci", *newest + rng.gen_range(1..3)),
            };
            if requester != THIEF {
                *newest = sequence.max(*newest);
            }
            request(rng, (requester, number), class, product, channel, sequence)
        })
        .collect()
}

fn request(
    rng: &mut ChaCha20Rng,
    (requester, number): (&str, u32),
    class: Class,
    product: &str,
    channel: &str,
    sequence: u64,
) -> Request {
    let artifact = |file: u8| UnverifiedArtifact { name: format!("file-{file}"), sha256: vec![file; 32] };
    let release = UnverifiedRelease {
        class,
        product: product.to_owned(),
        channel: channel.to_owned(),
        version: format!("1.{sequence}.{number}"),
        sequence,
        issued_at: EPOCH,
        expires_at: None,
        artifacts: (0..rng.gen_range(1..5)).map(artifact).collect(),
        formats: if rng.gen_bool(0.5) { vec![Format::Dsse] } else { vec![Format::Dsse, Format::Sshsig] },
    };
    Request {
        release_id: ReleaseId::new(format!("{product}-{channel}-{number}")).unwrap(),
        requester: Requester::new(requester).unwrap(),
        release: Arc::new(release.verify().unwrap()),
    }
}
