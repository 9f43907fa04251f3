//! Which stores and logs open together, and what they begin with.

use rutli_log::{Origin, SignedCheckpoint};

use super::{
    log_tests::{beside, execute, grow, head_of, open_with, write},
    tests::reopen,
    *,
};
use crate::testing::{eventually, log_signer};

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
        assert_eq!(store.log().consistency(1, &newest.head()).unwrap().len(), 2);
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
