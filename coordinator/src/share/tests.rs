//! The rule, and that everything is given back.

use super::*;

fn bound(most: u64) -> Arc<Bound> {
    Bound::new(Limit { what: "things", key: "max_things", most, retry: Duration::from_secs(1) })
}

fn whose<T>(taken: Result<T, Full>) -> Whose {
    taken.err().expect("it is full").whose
}

#[test]
fn a_name_has_a_quarter_an_authority_three_and_the_last_tenth_is_for_those_with_little() {
    let bound = bound(1_000);
    let owner = |name: &str, authority: &str| Owner::new(name, authority);
    let a = bound.take(&owner("a", "one"), 250).unwrap();
    let full = bound.take(&owner("a", "one"), 1).unwrap_err();
    assert_eq!((full.whose, full.holder.as_str(), full.used, full.most), (Whose::Name, "a", 250, 250));
    let _b = bound.take(&owner("b", "one"), 250).unwrap();
    // 750 are the authority's; but for the last tenth.
    let _c = bound.take(&owner("c", "one"), 175).unwrap();
    assert_eq!(whose(bound.take(&owner("c", "one"), 1)), Whose::Authority);
    let _little = bound.take(&owner("d", "one"), 9).unwrap();
    let _little_more = bound.take(&owner("d", "one"), 1).unwrap();
    assert_eq!(whose(bound.take(&owner("d", "one"), 1)), Whose::Authority, "a hundredth is not little");
    // The other authority has what is left of all, less a tenth.
    let _e = bound.take(&owner("e", "two"), 215).unwrap();
    assert_eq!(whose(bound.take(&owner("e", "two"), 1)), Whose::All);
    let _new = bound.take(&owner("f", "three"), 9).unwrap();
    drop(a);
    bound.take(&owner("e", "two"), 35).unwrap();
}

#[test]
fn a_small_bound_has_room_for_one_of_each() {
    let bound = bound(2);
    let _a = bound.take(&Owner::new("a", "one"), 1).unwrap();
    assert_eq!(whose(bound.take(&Owner::new("a", "one"), 1)), Whose::Name);
    let _b = bound.take(&Owner::new("b", "one"), 1).unwrap();
    assert_eq!(whose(bound.take(&Owner::new("c", "two"), 1)), Whose::All);
}

#[test]
fn shares_grow_shrink_and_are_given_back() {
    let bound = bound(100);
    let owner = Owner::new("a", "one");
    let share = bound.take(&owner, 5).unwrap();
    share.grow(20).unwrap();
    assert_eq!(whose(share.grow(1)), Whose::Name);
    share.grow_promised(10);
    assert_eq!(bound.used(), 35);
    share.resize(7).unwrap();
    assert_eq!(bound.used(), 7);
    drop(share);
    assert_eq!(bound.used(), 0);
    assert!(bound.state().names.is_empty() && bound.state().authorities.is_empty());
}

#[test]
fn the_name_that_holds_most_makes_room() {
    let bound = bound(16);
    let take = |name: &str, authority: &str| {
        let revoked = CancellationToken::new();
        let share = bound.take_revocable(&Owner::new(name, authority), revoked.clone(), false);
        share.map(|share| (share, revoked))
    };
    let first = take("b", "two").unwrap();
    let a: Vec<_> = (0..4).map(|_| take("a", "one").unwrap()).collect();
    assert_eq!(whose(take("a", "one")), Whose::Name);
    let _b: Vec<_> = (0..2).map(|_| take("b", "two").unwrap()).collect();
    let _c: Vec<_> = (0..4).map(|_| take("c", "two").unwrap()).collect();
    let _d: Vec<_> = (0..4).map(|_| take("d", "three").unwrap()).collect();
    // All but the last tenth is held: somebody with four loses the oldest, and nobody else anything.
    let _e = take("e", "four").unwrap();
    let _e_again = take("e", "four").unwrap();
    assert_eq!(bound.used(), 16);
    assert!(!first.1.is_cancelled(), "the oldest of all, of a name that holds little");
    a[3].0.in_use();
    let before = bound.used();
    drop(a);
    assert!(bound.used() < before);
}

/// The holder of one authority's key takes nothing from a name that another one vouches for.
#[test]
fn one_name_of_two_authorities_has_two_shares() {
    let bound = bound(16);
    let (one, other) = (Owner::new("a", "one"), Owner::new("a", "two"));
    let _held: Vec<_> = (0..4).map(|_| bound.take(&one, 1).unwrap()).collect();
    assert_eq!(whose(bound.take(&one, 1)), Whose::Name);
    bound.take(&other, 1).unwrap();
}

#[test]
fn what_is_not_used_yet_is_revoked_first() {
    let bound = bound(8);
    let block = Owner::block("192.0.2.7".parse().unwrap());
    assert_eq!(block, Owner::block("192.0.2.200".parse().unwrap()));
    assert_ne!(block, Owner::block("192.0.3.7".parse().unwrap()));
    assert_eq!(Owner::block("::ffff:192.0.2.9".parse().unwrap()), block);
    let tokens: Vec<CancellationToken> = (0..3).map(|_| CancellationToken::new()).collect();
    let oldest = bound.take_revocable(&block, tokens[0].clone(), true).unwrap();
    oldest.in_use();
    let _silent = bound.take_revocable(&block, tokens[1].clone(), true).unwrap();
    let _newest = bound.take_revocable(&block, tokens[2].clone(), true).unwrap();
    let revoked: Vec<bool> = tokens.iter().map(CancellationToken::is_cancelled).collect();
    assert_eq!(revoked, [false, true, false]);
    assert_eq!(bound.used(), 2);
}

#[tokio::test]
async fn names_take_turns() {
    let bound = bound(4);
    let (a, b) = (Owner::new("a", "one"), Owner::new("b", "two"));
    let patience = Duration::from_secs(60);
    let first = bound.wait(&a, 1, patience).await.unwrap();
    let queue: Vec<_> = (0..50)
        .map(|_| {
            let (bound, a) = (Arc::clone(&bound), a.clone());
            tokio::spawn(async move { bound.wait(&a, 1, patience).await.map(drop) })
        })
        .collect();
    tokio::task::yield_now().await;
    // Another name does not wait for them.
    let other = bound.wait(&b, 1, Duration::ZERO).await.unwrap();
    assert_eq!(whose(bound.wait(&a, 1, Duration::from_millis(1)).await), Whose::Name);
    drop((first, other));
    for waited in queue {
        waited.await.unwrap().unwrap();
    }
    assert_eq!(bound.used(), 0);
}

#[tokio::test]
async fn who_gave_up_waiting_holds_up_nobody() {
    let bound = bound(100);
    let owner = Owner::new("a", "one");
    // More than the name may ever have.
    assert_eq!(whose(bound.wait(&owner, 26, Duration::from_millis(1)).await), Whose::Name);
    let _share = bound.wait(&owner, 25, Duration::ZERO).await.unwrap();
    assert_eq!(bound.used(), 25);
}

/// A name with large reads leaves most of the time to others; a name with small ones never waits.
#[tokio::test(start_paused = true)]
async fn large_work_is_followed_by_a_pause_of_its_name() {
    let bound = bound(4);
    let (mallory, alice) = (Owner::new("mallory", "one"), Owner::new("alice", "one"));
    let work = async |owner: &Owner, bytes: u64, ms: u64| {
        let asked = Instant::now();
        let share = bound.wait(owner, 1, Duration::from_secs(10)).await.unwrap();
        let waited = asked.elapsed();
        let turn = Turn::begin(share, bytes);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        drop(turn);
        waited
    };
    let ms = |ms: u64| Duration::from_millis(ms);
    assert_eq!(work(&mallory, limits::LARGE_WORK_BYTES - 1, 100).await, Duration::ZERO);
    assert_eq!(work(&mallory, limits::LARGE_WORK_BYTES, 100).await, Duration::ZERO);
    assert_eq!(work(&alice, limits::LARGE_WORK_BYTES, 0).await, Duration::ZERO);
    assert_eq!(work(&mallory, limits::LARGE_WORK_BYTES, 5_000).await, ms(300));
    assert_eq!(work(&mallory, 0, 0).await, ms(limits::REST_MOST_MS));

    // While they rest, names of one authority keep no room from another name of it.
    for name in ["m1", "m2", "m3", "m4"] {
        assert_eq!(work(&Owner::new(name, "one"), limits::LARGE_WORK_BYTES, 100).await, Duration::ZERO);
    }
    assert_eq!(bound.used(), 0);
    assert_eq!(work(&alice, 0, 0).await, Duration::ZERO);
    // But the more of them rest, the longer.
    assert_eq!(work(&Owner::new("m4", "one"), 0, 0).await, ms(900));
    assert_eq!(work(&Owner::new("o", "other"), limits::LARGE_WORK_BYTES, 100).await, Duration::ZERO);
    assert_eq!(work(&Owner::new("o", "other"), 0, 0).await, ms(300));
    for name in ["m1", "m2"] {
        work(&Owner::new(name, "one"), limits::LARGE_WORK_BYTES, 700).await;
    }
    assert_eq!(work(&Owner::new("m2", "one"), 0, 0).await, ms(limits::REST_MOST_MS));
    tokio::time::sleep(ms(limits::REST_MOST_MS)).await;
    assert!(bound.state().resting.is_empty());
}

/// Room that others get does not put who waits for more behind those who come later.
#[tokio::test(start_paused = true)]
async fn who_is_passed_over_keeps_its_place() {
    let bound = bound(8);
    let [a, x, m] = [("a", "one"), ("x", "two"), ("m", "one")].map(|(name, by)| Owner::new(name, by));
    // All that the authority may have is taken, and all that the name may have.
    let mut held: Vec<_> =
        (0..).map_while(|number| bound.take(&Owner::new(&format!("h{number}"), "one"), 1).ok()).collect();
    let own = bound.take(&x, 2).unwrap();
    let (patience, moment) = (Duration::from_secs(10), Duration::from_millis(1));
    let [mut for_a, mut for_x, mut for_m] =
        [&a, &x, &m].map(|owner| Box::pin(bound.wait(owner, 1, patience)));
    for waits in [&mut for_a, &mut for_x, &mut for_m] {
        assert!(tokio::time::timeout(moment, waits).await.is_err());
    }
    drop(own);
    let _other = for_x.await.unwrap();
    held.pop();
    let _first = for_a.await.unwrap();
    assert!(tokio::time::timeout(moment, for_m).await.is_err());
}
