//! `rutli approve` and `rutli refuse`: a custodian's word about a release, signed with the custodian's own SSH key.
//!
//! What is signed names the release and the digest of its statement, which is computed here from the content that is shown. So a
//! coordinator that shows one thing cannot have another approved: nodes compare the digest with that of what they are to sign.

mod signature;

use std::{
    io::{BufRead, IsTerminal, Read},
    path::Path,
};

use rutli_evidence::{
    APPROVAL_NAMESPACE, Evidence, REFUSAL_NAMESPACE, Refused, Trust, approval_text, check_reason,
    refusal_text,
};
use rutli_release::ReleaseId;
use serde_json::{Value, json};
use tonic::transport::Channel;

use self::signature::Key;
use crate::{
    cli,
    clock::unix_now,
    evidence,
    files::{self, Access},
    limits::{MAX_ANSWER_BYTES, MAX_SSH_SIGNATURE_BYTES},
    releases,
    report::{Failure, Report},
    review::View,
    text, trust, waits,
};

/// What a custodian says about a release.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Approval,
    /// Of these files of the release, by name; none: of all.
    Refusal {
        reason: String,
        files: Vec<String>,
    },
}

/// `rutli approve`
///
/// # Errors
/// Exit code 1 for a release that is final, a signature that does not hold, an answer that is not yes; 2 for files that cannot be
/// used; and what the coordinator answers.
pub async fn approve(
    args: cli::Approve,
    connect: impl Future<Output = Result<Channel, Failure>>,
) -> Result<Report, Failure> {
    give(Word::Approval, &args.release, &args.signing, &args.view, connect).await
}

/// `rutli refuse`
///
/// # Errors
/// As [`approve`].
pub async fn refuse(
    args: cli::Refuse,
    connect: impl Future<Output = Result<Channel, Failure>>,
) -> Result<Report, Failure> {
    let word = Word::Refusal { reason: args.reason, files: args.files };
    give(word, &args.release, &args.signing, &args.view, connect).await
}

async fn give(
    word: Word,
    id: &ReleaseId,
    signing: &cli::Signing,
    shown: &cli::View,
    connect: impl Future<Output = Result<Channel, Failure>>,
) -> Result<Report, Failure> {
    // What cannot be is said before anybody is asked for anything.
    word.check()?;
    let trust = shown.trust.as_deref().map(trust::read).transpose()?;
    let key = signing.key.as_deref().map(Key::read).transpose()?;
    let made = signing.signature.as_deref().map(read_signature).transpose()?;
    if signing.print_text.is_none() && !signing.yes && !std::io::stdin().is_terminal() {
        return Err(Failure::usage("somebody must look at the release first, and stdin is no terminal")
            .help("run it on a terminal; in a script, add --yes"));
    }
    let channel = connect.await?;
    let view = View::fetch(channel.clone(), id, trust.as_ref(), shown.trust.as_deref()).await?;
    still_open(&view)?;
    let to_sign = word.text(&view)?;
    eprintln!("{}\n", view.text(shown.files.is_some()));
    if let Some(path) = &signing.print_text {
        files::write_atomically(path, to_sign.as_bytes(), Access::Public)?;
        return Ok(printed(&word, &view, path, shown.trust.as_deref()));
    }
    if !signing.yes {
        confirm(&word, &view)?;
    }
    let armor = match (made, key) {
        (Some(armor), _) => armor,
        (None, Some(key)) => key.sign(word.namespace(), &to_sign).await?,
        (None, None) => return Err(Failure::usage("with which key?").help("give one with --key")),
    };
    let document = checked(&to_sign, &armor, &view, trust.as_ref())?;
    send(channel, &word, &view, &document).await
}

impl Word {
    fn name(&self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Refusal { .. } => "refusal",
        }
    }

    fn command(&self) -> &'static str {
        match self {
            Self::Approval => "approve",
            Self::Refusal { .. } => "refuse",
        }
    }

    fn namespace(&self) -> &'static str {
        match self {
            Self::Approval => APPROVAL_NAMESPACE,
            Self::Refusal { .. } => REFUSAL_NAMESPACE,
        }
    }

    /// What can be wrong with it before the release is known.
    fn check(&self) -> Result<(), Failure> {
        let Self::Refusal { reason, .. } = self else { return Ok(()) };
        check_reason(reason).map_err(|_| {
            Failure::usage(format!(
                "the --reason is not one line of 1 to {} bytes of printable text without white space at its ends",
                rutli_evidence::limits::MAX_REASON_BYTES
            ))
            .help("say it in fewer words, on one line")
        })
    }

    fn text(&self, view: &View) -> Result<String, Failure> {
        match self {
            Self::Approval => Ok(approval_text(&view.id, &view.statement_sha256())),
            Self::Refusal { reason, files } => {
                let refused = refused(view, files)?;
                refusal_text(&view.id, &refused, reason).map_err(|error| {
                    Failure::usage(error.to_string()).help("correct the reason or the files")
                })
            }
        }
    }
}

/// The product with all files of the release, or with those of these names.
fn refused(view: &View, names: &[String]) -> Result<Refused, Failure> {
    let all = view.content.artifacts();
    let named = |name: &String| {
        all.iter().find(|artifact| artifact.name.as_str() == name).ok_or_else(|| {
            Failure::usage(format!("release {} has no file {}", view.id, text::printable(name)))
                .help(format!("`rutli show {} --files all` lists them", view.id))
        })
    };
    let chosen = match names {
        [] => all.iter().collect(),
        names => names.iter().map(named).collect::<Result<Vec<_>, _>>()?,
    };
    Ok(Refused {
        statement: view.statement_sha256(),
        product: view.content.product().clone(),
        files: chosen.into_iter().map(|artifact| artifact.sha256).collect(),
    })
}

/// The document, after finding out here what every node will find out: that the signature is over this text, in this namespace, by the
/// key that it names, and touched for; with `--trust` also that it is a custodian's.
fn checked(to_sign: &str, armor: &str, view: &View, trust: Option<&Trust>) -> Result<Evidence, Failure> {
    let document = Evidence::parse(format!("{to_sign}{armor}").as_bytes()).map_err(|error| {
        Failure::usage(format!("the signature cannot be used: {error}"))
            .help("sign exactly the text that --print-text writes, with `ssh-keygen -Y sign`")
    })?;
    let nothing_sent = "nothing was sent; sign exactly the text that --print-text writes for this release";
    let own = signature::trust_of(armor)?;
    let verify = |trust| rutli_evidence::verify(&document, trust, &view.content, &view.id, unix_now());
    verify(&own).map_err(|error| {
        Failure::failed(format!("the signature does not hold: {error}")).help(nothing_sent)
    })?;
    if let Some(trust) = trust {
        verify(trust).map_err(|error| {
            Failure::failed(format!("a node with these rules would not count it: {error}"))
                .help("nothing was sent; use a key that is in allowed_signers of that folder, or ask its custodian that yours be added")
        })?;
    }
    Ok(document)
}

async fn send(channel: Channel, word: &Word, view: &View, document: &Evidence) -> Result<Report, Failure> {
    let digest = document.digest();
    let was_there = view.release.evidence.iter().any(|info| info.digest == digest);
    let after = evidence::add(channel, view.id.as_str(), std::slice::from_ref(document)).await?;
    let entry = after.evidence.iter().find(|info| info.digest == digest).map(|info| info.log_index);
    let statement = hex::encode(view.statement_sha256());
    let text = text::fields([
        (word.name(), format!("of release {}, statement sha256:{statement}", view.id)),
        (
            "evidence",
            format!(
                "sha256:{}{}",
                hex::encode(digest),
                if was_there { ", which was there already" } else { "" }
            ),
        ),
        ("in the log", entry.map_or_else(|| "–".to_owned(), |entry| format!("entry {entry}"))),
        ("release", releases::stage(&after)),
    ]);
    let mut json = releases::to_json(&after);
    if let Value::Object(fields) = &mut json {
        fields.insert("word".to_owned(), json!(word.name()));
        fields.insert("statement_sha256".to_owned(), json!(statement));
        fields.insert("added".to_owned(), json!(if was_there { vec![] } else { vec![hex::encode(digest)] }));
        fields.insert("digest".to_owned(), json!(hex::encode(digest)));
    }
    Ok(Report::new(text, json))
}

/// The next command has the folder of rules that this one had: without it nobody looks whether the key counts.
fn printed(word: &Word, view: &View, path: &Path, trust: Option<&Path>) -> Report {
    let file = path.display();
    let text = format!(
        "the text to be signed is in {file}; nothing was sent. Sign it where the key is:\n  \
         ssh-keygen -Y sign -n {} -f KEY {file}\nand send the signature:\n  rutli {} {}{} --signature {file}.sig{}",
        word.namespace(),
        word.command(),
        view.id,
        match word {
            Word::Approval => "",
            Word::Refusal { files, .. } if files.is_empty() => " --reason \"the same reason\"",
            Word::Refusal { .. } => " --reason \"the same reason\" --file \"the same files\"",
        },
        waits::with_trust(trust),
    );
    let mut json = view.json();
    if let Value::Object(fields) = &mut json {
        fields.insert("word".to_owned(), json!(word.name()));
        fields.insert("namespace".to_owned(), json!(word.namespace()));
        fields.insert("written".to_owned(), json!([path]));
    }
    Report::new(text, json)
}

/// A word about a release that is final changes nothing, and looks as if it had.
fn still_open(view: &View) -> Result<(), Failure> {
    if !releases::is_final(view.release.state) {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "release {} is {} already: no approval and no refusal changes that",
        view.id,
        releases::state_word(view.release.state)
    ))
    .help("`rutli pending` lists the releases that wait")
    .with(view.json()))
}

/// Asks on the terminal; both words of the release's id do, and `yes`.
fn confirm(word: &Word, view: &View) -> Result<(), Failure> {
    let id = &view.id;
    match word {
        Word::Approval => eprintln!("Your approval says that you want exactly this signed."),
        Word::Refusal { reason, files } => eprintln!(
            "A refusal is permanent. Nodes that trust your key sign neither this release nor any other of {} that has one \n\
             of {}, whatever else it says. Files that a node has signed in an earlier release do not count,\n\
             unless it has signed all of them.\nThe reason is in the log, for everybody to read:\n\n    {}\n",
            view.content.product(),
            match files.len() {
                0 => "its files".to_owned(),
                count => text::count(count, "file that you named", "files that you named"),
            },
            text::printable(reason)
        ),
    }
    eprint!("Type yes, or the release's id, to sign this {}: ", word.name());
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .take(MAX_ANSWER_BYTES)
        .read_line(&mut line)
        .map_err(|error| Failure::usage(format!("cannot read the answer: {error}")))?;
    let answer = line.trim();
    if answer.eq_ignore_ascii_case("yes") || answer == id.as_str() {
        return Ok(());
    }
    Err(Failure::failed(format!("nothing was signed: the answer was not yes, and not {id}"))
        .help("run it again when you have decided; `rutli refuse` refuses the release"))
}

fn read_signature(path: &Path) -> Result<String, Failure> {
    String::from_utf8(files::read_within(path, MAX_SSH_SIGNATURE_BYTES)?).map_err(|_| {
        Failure::usage(format!("{} is not text", path.display()))
            .help("give the file that `ssh-keygen -Y sign` wrote: FILE.sig")
    })
}

#[cfg(test)]
mod tests {
    use ssh_key::{HashAlg, LineEnding, PrivateKey, private::Ed25519Keypair};

    use super::*;
    use crate::{releases::tests::signed, review::tests::view};

    fn key(number: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[number; 32]))
    }

    fn sign(key: &PrivateKey, namespace: &str, text: &str) -> String {
        key.sign(namespace, HashAlg::Sha512, text.as_bytes()).unwrap().to_pem(LineEnding::LF).unwrap()
    }

    #[test]
    fn only_a_signature_over_this_text_is_sent() {
        let view = view(signed(&[]));
        let text = Word::Approval.text(&view).unwrap();
        let good = sign(&key(1), APPROVAL_NAMESPACE, &text);
        checked(&text, &good, &view, None).unwrap();
        let other = approval_text(&view.id, &[7; 32]);
        for (armor, said) in [
            (sign(&key(1), APPROVAL_NAMESPACE, &other), "does not hold"),
            (sign(&key(1), REFUSAL_NAMESPACE, &text), "namespace"),
            ("garbage".to_owned(), "cannot be used"),
            (good.replace('\n', "\r\n"), "cannot be used"),
        ] {
            let failure = checked(&text, &armor, &view, None).unwrap_err();
            assert!(failure.problem.contains(said) && failure.help.is_some(), "{failure}");
        }
        // A text about another statement, well signed: a coordinator's digest would be one.
        let moved = sign(&key(1), APPROVAL_NAMESPACE, &other);
        assert!(checked(&other, &moved, &view, None).unwrap_err().problem.contains("another statement"));
        let trusting = |number| {
            let line = format!("clara {}", key(number).public_key().to_openssh().unwrap());
            Trust::new(Vec::new(), &line).unwrap()
        };
        checked(&text, &good, &view, Some(&trusting(1))).unwrap();
        let failure = checked(&text, &good, &view, Some(&trusting(2))).unwrap_err();
        assert!(failure.problem.contains("would not count it"), "{failure}");
        // A signature that no node counts must not look like the way out.
        assert!(!failure.to_string().contains("--trust"), "{failure}");
    }

    #[test]
    fn the_command_that_comes_next_verifies_by_the_same_folder() {
        let view = view(signed(&[]));
        let next = |trust| printed(&Word::Approval, &view, Path::new("word"), trust).text;
        let folder = Path::new("/etc/rutli/policy");
        assert!(
            next(Some(folder)).ends_with("--signature word.sig --trust /etc/rutli/policy"),
            "{}",
            next(Some(folder))
        );
        assert!(next(None).ends_with("--signature word.sig"));
    }

    #[test]
    fn a_release_that_is_final_gets_no_word_and_a_reason_is_short() {
        assert!(still_open(&view(signed(&[]))).unwrap_err().problem.contains("is signed already"));
        for reason in ["", "two\nlines", " space", &"x".repeat(501)] {
            let refusal = Word::Refusal { reason: reason.to_owned(), files: Vec::new() };
            assert_eq!(refusal.check().unwrap_err().exit.code(), 2, "{reason:?}");
        }
    }

    #[test]
    fn a_refusal_names_all_files_or_those_that_were_chosen() {
        let view = view(signed(&[]));
        let text = |files: &[&str]| {
            let files = files.iter().map(|file| (*file).to_owned()).collect();
            Word::Refusal { reason: "the tests are missing".to_owned(), files }.text(&view)
        };
        let all = text(&[]).unwrap();
        assert!(all.ends_with("reason: the tests are missing\n"), "{all}");
        assert!(all.contains(&format!("product: {}\n", view.content.product())), "{all}");
        let artifacts = view.content.artifacts();
        for artifact in artifacts {
            assert!(all.contains(&format!("file: sha256:{}\n", hex::encode(artifact.sha256))), "{all}");
        }
        let one = text(&[artifacts[0].name.as_str()]).unwrap();
        assert_eq!(one.matches("file: ").count(), 1, "{one}");
        let failure = text(&["nothing.bin"]).unwrap_err();
        assert!(failure.problem.contains("has no file nothing.bin") && failure.help.is_some(), "{failure}");
    }
}
