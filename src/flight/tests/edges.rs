//! The machine's edges: the last moment before a rule applies, and the first moment after; and the counters.

use super::*;
use crate::queue::CHUNK;

#[test]
fn a_flight_that_everybody_left_is_something_to_wait_for() {
    let mut bench = Bench::new(RefreshPolicy::default().wait_timeout(Duration::from_secs(1)));
    assert!(bench.machine.is_idle());
    bench.want(1);
    assert_eq!(bench.pass(Duration::from_secs(1)), ["tell 1 no token within the caller's wait timeout"]);
    assert!(!bench.machine.is_idle());
    bench.fetched(1, "new");
    assert!(bench.machine.is_idle());
}

#[test]
fn the_rest_of_a_cooldown_is_told() {
    let mut bench = Bench::new(RefreshPolicy::default().attempts(1).cooldown(Duration::from_secs(8)));
    let left = |bench: &Bench| bench.machine.cooldown_left(bench.now);
    assert_eq!(left(&bench), None);
    bench.want(1);
    bench.failed(1, SourceError::transient("no"));
    assert_eq!(left(&bench), Some(Duration::from_secs(8)));
    bench.pass(Duration::from_secs(5));
    assert_eq!(left(&bench), Some(Duration::from_secs(3)));
    bench.pass(Duration::from_secs(3));
    assert_eq!(left(&bench), None);
}

#[test]
fn a_token_with_just_min_validity_left_is_not_handed_out() {
    let mut bench = Bench::new(RefreshPolicy::default());
    bench.want(1);
    bench.fetched(1, "old");
    bench.pass(Duration::from_secs(3_589));
    assert_eq!(bench.want(2)[0], "tell 2 old");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.want(3), [""; 0], "it waits for the flight that began ahead");
    assert_eq!(bench.fetched(2, "new"), ["publish new", "tell [3] new"]);
}

#[test]
fn what_callers_do_is_counted() {
    let mut bench = Bench::new(RefreshPolicy::default().max_waiters(1));
    bench.on(Event::Refresh { waiter: Name(1) });
    bench.want(2);
    bench.want(3);
    let counters = bench.machine.counters();
    assert_eq!((counters.requests, counters.overloads, counters.coalesced), (3, 2, 0));
    bench.fetched(1, "new");
    let counters = bench.machine.counters();
    assert_eq!((counters.landed_by(Reason::First), counters.landed_by(Reason::Forced)), (1, 0));
}

#[test]
fn a_full_queue_is_searched_once_a_second_at_most() {
    let mut bench = Bench::new(RefreshPolicy::default().max_waiters(3));
    for name in [1_001, 1, 2] {
        bench.want(name);
    }
    let told = "tell 1001 the token actor has stopped";
    assert_eq!(bench.want(1_002), [told], "it is gone, and makes room");
    let full = "tell 3 too many requests wait for a token (max_waiters is 3)";
    assert_eq!(bench.want(3), [full], "1002 is gone too, but nobody looks so soon");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.want(4), ["tell 1002 the token actor has stopped"]);
}

#[test]
fn who_joins_and_who_gives_up_is_counted() {
    let mut bench = Bench::new(RefreshPolicy::default().wait_timeout(Duration::from_secs(1)));
    bench.want(1);
    bench.want(2);
    bench.want(3);
    assert_eq!(bench.machine.counters().coalesced, 2);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.machine.counters().timeouts, 3);
}

#[test]
fn of_a_crowd_whose_time_is_over_a_chunk_goes_at_a_tick() {
    let patience = Duration::from_secs(1);
    let mut bench = Bench::new(RefreshPolicy::default().wait_timeout(patience));
    let crowd = 2 * CHUNK + 1;
    for _ in 0..crowd {
        bench.want(0);
    }
    let due = bench.now.boot + patience;
    assert_eq!(bench.pass(patience).len(), CHUNK);
    assert_eq!(bench.wake(), Some(due), "the rest at once");
    assert_eq!(bench.pass(Duration::ZERO).len(), CHUNK);
    assert_eq!(bench.pass(Duration::ZERO).len(), 1);
}

#[test]
fn a_pause_is_not_cut_short_by_an_early_tick() {
    let mut bench = Bench::new(RefreshPolicy::default());
    bench.want(1);
    bench.failed(1, SourceError::transient("no").with_retry_after(Duration::from_secs(3)));
    assert_eq!(bench.pass(Duration::from_millis(2_999)), [""; 0]);
    assert_eq!(bench.pass(Duration::from_millis(1)), ["fetch 2 first"]);
}

#[test]
fn the_length_of_an_outage_is_noted_when_it_ends() {
    let mut bench = Bench::new(RefreshPolicy::default().attempts(1));
    let mut notes = Vec::new();
    let mut fly = |bench: &mut Bench, result: Option<SourceError>| {
        bench.pass(Duration::from_secs(60));
        bench.want(1);
        let id = bench.machine.fetches;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let token =
            Token::new("new").stamped(bench.now, &clock, Duration::from_secs(30), Duration::from_secs(30));
        let mut out = Vec::new();
        let result = result.map_or(Ok(token), Err);
        bench.machine.on(Event::Fetched { id, result }, bench.now, &mut out);
        notes.extend(out.into_iter().filter_map(|effect| match effect {
            Effect::Note(Note::Landed { outage, .. }) => Some(outage),
            _ => None,
        }));
    };
    for failing in [true, true, false, false, true] {
        fly(&mut bench, failing.then(|| SourceError::transient("no")));
    }
    assert_eq!(notes, [2, 0]);
}

#[test]
fn an_ambiguous_failure_is_the_last_of_its_flight_unless_it_may_be_repeated() {
    let policy = RefreshPolicy::default().attempts(2).backoff(Duration::ZERO);
    let mut bench = Bench::new(policy);
    bench.want(1);
    let told = bench.failed(1, SourceError::ambiguous("lost"));
    assert_eq!(told, ["tell [1] token refresh ended without a clear answer: lost"]);
    bench.pass(Duration::from_secs(60));
    bench.want(2);
    assert_eq!(bench.failed(2, SourceError::ambiguous("lost").repeatable()), [""; 0]);
    assert_eq!(bench.pass(Duration::from_secs(1)), ["fetch 3 first"]);
}

/// The token that the next call has to replace, and whether that is a discarded one.
fn called(bench: &mut Bench, event: Event<Name>) -> Option<(String, bool)> {
    let mut out = Vec::new();
    bench.machine.on(event, bench.now, &mut out);
    out.into_iter().find_map(|effect| match effect {
        Effect::Fetch { cx, .. } => {
            let is_discarded = cx.is_discarded();
            Some((cx.previous.map_or("none".to_owned(), |token| token.secret().to_owned()), is_discarded))
        }
        _ => None,
    })
}

#[test]
fn a_source_that_gives_out_a_discarded_token_is_told_so_by_the_next_call() {
    let mut bench = Bench::new(RefreshPolicy::default().attempts(2).backoff(Duration::ZERO));
    let named = |secret: &str, is_discarded| Some((secret.to_owned(), is_discarded));
    bench.discard("one");
    bench.discard("other");
    let want = Event::Want { waiter: Name(1), timeout: None };
    assert_eq!(called(&mut bench, want), named("other", true), "it was discarded last");
    assert_eq!(bench.fetched(1, "one"), [""; 0]);
    assert_eq!(called(&mut bench, Event::Tick), named("one", true), "it was given out");
    assert_eq!(bench.fetched(2, "new"), ["publish new", "tell [1] new"]);
    // A token is in use.
    let refresh = || Event::Refresh { waiter: Name(0) };
    assert_eq!(called(&mut bench, refresh()), named("new", false));
    bench.fetched(3, "one");
    assert_eq!(called(&mut bench, Event::Tick), named("one", true));
    bench.failed(4, SourceError::transient("no"));
    bench.pass(Duration::from_secs(10));
    assert_eq!(called(&mut bench, refresh()), named("new", false), "a new flight");
}

#[test]
fn a_token_that_comes_without_a_flight_is_noted_with_the_end_of_the_outage() {
    let mut bench = Bench::new(RefreshPolicy::default().attempts(1));
    bench.want(1);
    bench.failed(1, SourceError::transient("no"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let life = Duration::from_secs(3_600);
    let token = Token::new("seen").stamped(bench.now, &clock, life, life);
    let mut out = Vec::new();
    bench.machine.on(Event::Offered(token), bench.now, &mut out);
    let notes: Vec<String> = out
        .into_iter()
        .filter_map(|effect| if let Effect::Note(note) = effect { Some(format!("{note:?}")) } else { None })
        .collect();
    let [note] = &notes[..] else { panic!("{notes:?}") };
    assert!(note.contains("expires_at") && note.contains("outage: 1"), "{note}");
}
