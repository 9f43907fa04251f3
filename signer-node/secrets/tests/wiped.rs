//! What is left of nonces and shares in a process that has used and dropped them: nothing, in the release profile too.
//!
//! The test starts itself once more as the process to be looked at (`subject`), which says when it has come to a
//! point, and waits there. Only this process knows what to search for, so that the search does not find itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    process::{Child, Command, Stdio},
};

use frost_ed25519::{
    Ciphersuite as _, Ed25519ScalarField, Ed25519Sha512, Field as _, Identifier, SigningPackage,
    VerifyingKey,
    keys::{KeyPackage, SigningShare, VerifyingShare},
};
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use rutli_signer_secrets::{Locked, NoncePool, on_wiped_stack};
use zeroize::Zeroize;

const PAIRS: usize = 256;
const USED: usize = 200;
/// What both processes derive everything from.
const SEED: u64 = 20_260_914;

#[test]
fn nothing_is_left_of_used_nonces_and_dropped_shares() {
    let (share, nonces) = expected();
    let mut subject = Subject::start();

    // The search works: all are there, and in locked pages alone.
    subject.until("made");
    let found = subject.search(&[&nonces[..], &[share]].concat());
    assert_eq!((found.secrets, found.unlocked), (2 * PAIRS + 1, 0), "before use");

    subject.until("used");
    let found = subject.search(&nonces[..2 * USED]);
    assert_eq!(found.secrets, 0, "nonces left after use");
    let found = subject.search(&[&nonces[2 * USED..], &[share]].concat());
    assert_eq!((found.secrets, found.unlocked), (2 * (PAIRS - USED) + 1, 0), "what is not used yet");

    subject.until("dropped");
    let found = subject.search(&[&nonces[..], &[share, derived(b"careless")]].concat());
    assert_eq!(found.secrets, 0, "left of what was dropped");
}

/// The process that is looked at.
#[test]
#[ignore = "started by the other test, as a process of its own"]
fn subject() {
    let share = on_wiped_stack(|| Locked::new(derived(b"share")).unwrap());
    let mut pool = NoncePool::default();
    let mut rng = StdRng::seed_from_u64(SEED);
    let announced = pool.top_up(&share, PAIRS, PAIRS, &mut rng).unwrap();
    reached("made");

    let key = on_wiped_stack(|| Locked::new(key_package(&share)).unwrap());
    for name in &announced[..USED] {
        let pair = pool.take(name).unwrap();
        let package = SigningPackage::new([(*key.identifier(), *pair.commitments())].into(), b"message");
        pair.sign(&package, &key).unwrap();
    }
    drop(key);
    reached("used");

    let careless = on_wiped_stack(|| Locked::new(Careless(derived(b"careless"))).unwrap());
    drop(pool);
    drop(share);
    drop(careless);
    reached("dropped");
}

/// Wipes itself as frost-core's types do: the compiler may leave it out.
struct Careless([u8; 32]);

impl Zeroize for Careless {
    fn zeroize(&mut self) {
        self.0 = [0; 32];
    }
}

fn reached(point: &str) {
    println!("{point}");
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_exact(&mut [0]).unwrap();
}

fn derived(what: &[u8]) -> [u8; 32] {
    Ed25519ScalarField::serialize(&Ed25519Sha512::H1(&[&SEED.to_le_bytes(), what].concat()))
}

fn key_package(share: &[u8; 32]) -> KeyPackage {
    let share = SigningShare::deserialize(share).unwrap();
    let verifying = VerifyingShare::from(share);
    let group = VerifyingKey::deserialize(&verifying.serialize().unwrap()).unwrap();
    KeyPackage::new(Identifier::try_from(1).unwrap(), share, verifying, group, 1)
}

/// The share, and hiding and binding nonce of each pair (RFC 9591, section 4.1).
fn expected() -> ([u8; 32], Vec<[u8; 32]>) {
    let share = derived(b"share");
    let mut rng = StdRng::seed_from_u64(SEED);
    let nonce = |_| {
        let mut input = [0; 64];
        rng.fill_bytes(&mut input[..32]);
        input[32..].copy_from_slice(&share);
        Ed25519ScalarField::serialize(&Ed25519Sha512::H3(&input))
    };
    let nonces = (0..2 * PAIRS).map(nonce).collect();
    (share, nonces)
}

struct Subject {
    process: Child,
    says: BufReader<std::process::ChildStdout>,
}

/// How many of the secrets are there, and how many of them also in memory that is not locked.
struct Found {
    secrets: usize,
    unlocked: usize,
}

impl Subject {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["subject", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(process.stdout.take().unwrap());
        Self { process, says }
    }

    /// Lets it go on to the next point.
    fn until(&mut self, point: &str) {
        if point != "made" {
            self.process.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        }
        let mut line = String::new();
        while !line.trim_end().ends_with(point) {
            line.clear();
            assert!(self.says.read_line(&mut line).unwrap() > 0, "it ended before it had {point}");
        }
    }

    fn search(&self, secrets: &[[u8; 32]]) -> Found {
        let by_start: HashMap<&[u8], usize> =
            secrets.iter().enumerate().map(|(at, secret)| (&secret[..8], at)).collect();
        // Most places are passed over by their first two bytes.
        let mut may_begin = vec![false; 1 << 16];
        secrets.iter().for_each(|secret| may_begin[first_two(secret)] = true);
        let (mut seen, mut unlocked) = (vec![false; secrets.len()], vec![false; secrets.len()]);
        for (range, is_locked) in self.writable() {
            let mut memory = vec![0; usize::try_from(range.end - range.start).unwrap()];
            let mut file = File::open(format!("/proc/{}/mem", self.process.id())).unwrap();
            file.seek(SeekFrom::Start(range.start)).unwrap();
            file.read_exact(&mut memory).unwrap();
            for place in memory.windows(32).filter(|place| may_begin[first_two(place)]) {
                let Some(&at) = by_start.get(&place[..8]) else { continue };
                if secrets[at] == place {
                    seen[at] = true;
                    unlocked[at] |= !is_locked;
                }
            }
        }
        let count = |flags: Vec<bool>| flags.into_iter().filter(|flag| *flag).count();
        Found { secrets: count(seen), unlocked: count(unlocked) }
    }

    /// The writable parts of its memory, and whether they are locked.
    fn writable(&self) -> Vec<(std::ops::Range<u64>, bool)> {
        let maps = std::fs::read_to_string(format!("/proc/{}/smaps", self.process.id())).unwrap();
        let mut parts = Vec::new();
        let mut range = None;
        for line in maps.lines() {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            if let Some((start, end)) = first.split_once('-') {
                let address = |text| u64::from_str_radix(text, 16).unwrap();
                range = rest.starts_with("rw").then(|| address(start)..address(end));
            } else if first == "VmFlags:"
                && let Some(range) = range.take()
            {
                parts.push((range, rest.split(' ').any(|flag| flag == "lo")));
            }
        }
        assert!(parts.iter().any(|(_, is_locked)| !is_locked), "{maps}");
        parts
    }
}

fn first_two(bytes: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([bytes[0], bytes[1]]))
}

impl Drop for Subject {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
