//! Which stores and logs open together, and what they begin with.

use prost::Message as _;
use rutli_keys::SignedRoster;
use rutli_log::{Entry, Origin, SignedCheckpoint};
use rutli_wire::convert::{release_from_request, release_to_content};

use super::{
    log_tests::{assert_log, beside, execute, grow, head_of, logged, open_with, write},
    tests::{admit, in_channel, number, reopen},
    *,
};
use crate::{
    config::Limits,
    testing::{NOW, PATIENCE, Running, eventually, key, log_signer, open_store, request},
};

async fn refused_to_open(data_dir: &Path, signer: LogSigner, why: &str) {
    let error = open_with(data_dir, signer).await.err().unwrap().to_string();
    assert!(error.contains(why), "{error}");
}

/// A closed store of three entries: `written` of them in the folder, `published` if it says so.
async fn closed(written: Option<u64>, published: bool) -> (tempfile::TempDir, SignedCheckpoint) {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut appender) = open_with(folder.path(), log_signer()).await.unwrap();
    for entry in ["a", "b", "c"] {
        grow(&store, entry).await.unwrap();
        if store.log().newest().head().size == written.unwrap_or(0) {
            write(&store, &mut appender, folder.path()).await;
            store.unstage(store.log().newest().head()).await.unwrap();
            if published {
                appender.publish(&store.log().newest(), None).unwrap();
            }
        }
    }
    let newest = store.log().newest();
    drop((store, appender));
    // The writer closes its connection shortly after the last handle is gone.
    drop(reopen(folder.path()).await);
    eventually("the store is free", async || lock(folder.path()).is_ok()).await;
    (folder, newest)
}

#[tokio::test]
async fn only_its_own_key_and_origin_open_a_log() {
    let (folder, newest) = closed(Some(2), true).await;
    let origin = |name: &str| Origin::new(name).unwrap();
    let why = "put the log's own key and origin back";
    refused_to_open(folder.path(), LogSigner::from_bytes(origin("log.test/1"), &[1; 32]), why).await;
    refused_to_open(folder.path(), LogSigner::from_bytes(origin("log.test/2"), &[9; 32]), why).await;
    let store = reopen(folder.path()).await;
    assert_eq!(store.log().newest(), newest);
}

#[tokio::test]
async fn a_published_log_wants_its_own_store() {
    let (folder, _) = closed(Some(2), true).await;
    for file in std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()) {
        if file.is_file() {
            std::fs::remove_file(file).unwrap();
        }
    }
    refused_to_open(folder.path(), log_signer(), "the store knows of none").await;
    refused_to_open(folder.path(), log_signer(), "the store knows of none").await;
}

#[tokio::test]
async fn a_store_behind_its_folder_does_not_open() {
    let (folder, _) = closed(Some(3), true).await;
    // An older copy of the store, as before the third entry.
    let mut other = beside(folder.path()).await;
    let two = head_of(&["a".into(), "b".into()]);
    sqlx::query("UPDATE log_head SET checkpoint = $1, written_size = 2, written_root = $2")
        .bind(log_signer().sign(two).to_note())
        .bind(two.root.as_bytes().to_vec())
        .execute(&mut other)
        .await
        .unwrap();
    refused_to_open(folder.path(), log_signer(), "is").await;
    let error = open_with(folder.path(), log_signer()).await.err().unwrap();
    assert!(matches!(error, Error::File { .. } | Error::LogForked { .. } | Error::Log(_)), "{error}");
    // With the tiles of that moment still there, it is the published checkpoint that tells.
    std::fs::remove_dir_all(folder.path().join("log/tile")).unwrap();
    let mut appender = LogFolder::open(&folder.path().join("log")).unwrap().resume(Head::EMPTY).unwrap();
    appender.append(&[b"a".to_vec(), b"b".to_vec()], &[], two).unwrap();
    refused_to_open(folder.path(), log_signer(), "it is an old copy").await;
}

#[tokio::test]
async fn a_folder_that_is_behind_is_caught_up_with() {
    for written in [None, Some(2)] {
        let (folder, newest) = closed(written, written.is_some()).await;
        let (store, mut appender) = open_with(folder.path(), log_signer()).await.unwrap();
        assert_eq!(store.log().newest(), newest);
        assert_eq!(appender.head().size, written.unwrap_or(0));
        assert_eq!(store.log().backlog(), 3 - written.unwrap_or(0));
        write(&store, &mut appender, folder.path()).await;
        appender.publish(&newest, None).unwrap();
        assert_eq!(store.log().consistency(1, 3).unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_gap_in_the_staging_is_seen() {
    let (folder, _) = closed(Some(1), false).await;
    execute(&mut beside(folder.path()).await, "DELETE FROM log_entries WHERE number = 1").await;
    refused_to_open(folder.path(), log_signer(), "entry 1 is neither in the folder nor in the store").await;
    let (folder, _) = closed(Some(1), false).await;
    execute(&mut beside(folder.path()).await, "DELETE FROM log_entries WHERE number = 2").await;
    refused_to_open(folder.path(), log_signer(), "make a tree of 2 entries").await;
    let (folder, _) = closed(Some(1), false).await;
    execute(&mut beside(folder.path()).await, "UPDATE log_entries SET entry = x'00' WHERE number = 2").await;
    refused_to_open(folder.path(), log_signer(), "but the store has signed 3").await;
}

#[tokio::test]
async fn a_forged_tile_is_seen() {
    let (folder, _) = closed(Some(2), true).await;
    let tile = folder.path().join("log/tile/0/000.p/2");
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[5] ^= 1;
    std::fs::write(&tile, bytes).unwrap();
    refused_to_open(folder.path(), log_signer(), "do not lead to the root").await;
    std::fs::remove_file(&tile).unwrap();
    refused_to_open(folder.path(), log_signer(), "is not there").await;
}

#[tokio::test]
async fn a_published_head_of_another_history_is_seen() {
    let (folder, _) = closed(Some(2), true).await;
    let other = log_signer().sign(head_of(&["a".into(), "another".into()]));
    std::fs::write(folder.path().join("log/checkpoint"), other.to_note()).unwrap();
    refused_to_open(folder.path(), log_signer(), "are not those that the store has").await;
}

/// A store as the first version left it, without a log: one unfinished release with this content, and a key.
async fn first_version(data_dir: &Path, content: &v1::ReleaseContent, key: &SignedRoster) {
    drop(lock(data_dir).unwrap());
    let all = migrations();
    let mut other = beside(data_dir).await;
    Migrator::with_migrations(vec![all.migrations[0].clone()]).run(&mut other).await.unwrap();
    sqlx::query(
        "INSERT INTO releases (release_id, requester, request_id, request_digest, product, channel, sequence, content, \
         signatures, created_at, state) VALUES ('suite-1', 'ci', 'job-1', x'07', 'suite', 'stable', 1, $1, 2, $2, 1)",
    )
    .bind(content.encode_to_vec())
    .bind(i64::try_from(NOW).unwrap())
    .execute(&mut other)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO keys (roster_hash, name, signed_roster, usable_since) VALUES ($1, 'release', $2, 1)",
    )
    .bind(key.roster().hash().to_string())
    .bind(key.encode())
    .execute(&mut other)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_store_of_the_first_version_gets_its_log() {
    let folder = tempfile::tempdir().unwrap();
    first_version(folder.path(), &v1::ReleaseContent::default(), &key()).await;
    let store = open_store(folder.path()).await.unwrap();
    // Its key comes first: whatever is signed refers to it.
    let made = String::from_utf8(crate::log::key_entry(&key(), 1)).unwrap();
    assert_log(&store, folder.path(), &[&made]).await;
    let stored = store.unfinished().await.unwrap().remove(0);
    assert_eq!(stored.logged, None);
    assert_eq!(store.log_again(stored.number, logged("anew", 1).logged, None).await.unwrap(), 1);
    assert_log(&store, folder.path(), &[&made, "request anew"]).await;
    number(admit(&store, in_channel("beta", logged("b", 1))).await.unwrap());
    drop(store);
    let store = reopen(folder.path()).await;
    assert_eq!(store.unfinished().await.unwrap()[0].logged.as_ref().unwrap().index, 1);
    assert_eq!(store.log().newest().head().size, 3);
}

#[tokio::test]
async fn releases_of_the_first_version_are_logged_when_they_are_taken_up() {
    let release = release_from_request(request("job-1", 1), NOW).unwrap();
    let content = release_to_content(&release);
    let running = Running::start_on(Limits::default(), async |data_dir| {
        first_version(&data_dir, &content, &key()).await;
    })
    .await;
    let mut client = running.releases("rutli:pipeline:ci").await;
    let get = v1::GetReleaseRequest { release_id: "suite-1".into() };
    assert_eq!(client.get_release(get).await.unwrap().into_inner().log_index, 1);
    client.create_release(request("job-2", 2)).await.unwrap();
    let temporary = Arc::clone(&running.folder);
    let data_dir = temporary.path().join("data");
    let folder = LogFolder::open(&data_dir.join("log")).unwrap();
    let two = async {
        let size = |note: Option<String>| note.and_then(|note| note.lines().nth(1)?.parse::<u64>().ok());
        while size(folder.published().unwrap()) != Some(3) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, two).await.unwrap();
    running.stop().await.unwrap();
    let bundle = std::fs::read(data_dir.join("log/tile/entries/000.p/3")).unwrap();
    let entries = rutli_log::EntryBundle::parse(&bundle, 3).unwrap();
    let Entry::Request(entry) = Entry::parse(entries[1]).unwrap() else { panic!("another entry") };
    assert_eq!(entry.roster.as_bytes(), key().roster().hash().as_bytes());
    assert_eq!((entry.time, entry.release.as_str()), (NOW, "suite-1"));
    assert_eq!(entry.deadline, NOW + 168 * 3_600, "from its admission");
}
