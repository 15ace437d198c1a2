//! The queue is compared with a plain list, in every order of operations; and its memory is checked.

use proptest::prelude::*;

use super::*;

/// A waiter with a serial number, so that no two are alike.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Guest {
    serial: u32,
    /// Zero: none.
    key: u8,
    gone: bool,
    is_one: bool,
}

impl Waiter for Guest {
    fn key_hash(&self) -> Option<u64> {
        (self.key != 0).then_some(u64::from(self.key % 3) << 40) // collisions on purpose
    }
    fn same_key(&self, other: &Self) -> bool {
        self.key != 0 && self.key == other.key
    }
    fn is_one(&self) -> bool {
        self.is_one
    }
}

/// The operations.
#[derive(Clone, Debug)]
enum Step {
    Push {
        key: u8,
        gone: bool,
        is_one: bool,
        deadline: u64,
        own: bool,
    },
    PushMany(u16),
    RemoveAt(u16),
    /// All leave except each n-th.
    Thin(u8),
    PopDue(u64),
    Purge,
    Take,
    Append(u8),
    Freeze,
    Pop(u16),
    /// The waiters are back in line, with the newcomers behind them.
    Thaw,
    /// The places of many callers leave the crowd.
    TakeGroups,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..8, any::<bool>(), prop::bool::weighted(0.8), 1u64..100, any::<bool>())
            .prop_map(|(key, gone, is_one, deadline, own)| Step::Push { key, gone, is_one, deadline, own }),
        2 => (0u16..1_500).prop_map(Step::PushMany),
        4 => any::<u16>().prop_map(Step::RemoveAt),
        1 => (2u8..60).prop_map(Step::Thin),
        2 => (0u64..60).prop_map(Step::PopDue),
        1 => Just(Step::Purge),
        1 => Just(Step::Take),
        1 => (0u8..20).prop_map(Step::Append),
        2 => Just(Step::Freeze),
        3 => (0u16..1_200).prop_map(Step::Pop),
        2 => Just(Step::Thaw),
        1 => Just(Step::TakeGroups),
    ]
}

/// A waiter in the plain list. Without a number if the queue gave it a new one.
#[derive(Clone, Debug)]
struct Noted {
    number: Option<u64>,
    guest: Guest,
    deadline: Duration,
}

struct Beside {
    queue: Waiters<Guest>,
    list: Vec<Noted>,
    /// Numbers of waiters that have left.
    left: Vec<u64>,
    frozen: Option<(Frozen<Guest>, Vec<Noted>)>,
    serial: u32,
}

impl Beside {
    fn guest(&mut self, key: u8, gone: bool, is_one: bool) -> Guest {
        self.serial += 1;
        Guest { serial: self.serial, key, gone, is_one }
    }

    fn is_there(&self, guest: Guest) -> bool {
        let told = self.frozen.as_ref().is_some_and(|(frozen, list)| {
            let there = list.iter().any(|noted| noted.guest.same_key(&guest));
            assert_eq!(frozen.contains(&guest), there);
            there
        });
        let there = self.list.iter().any(|noted| noted.guest.same_key(&guest));
        assert_eq!(self.queue.contains(&guest), there);
        told || there
    }

    fn push(&mut self, guest: Guest, deadline: Duration, own: bool) {
        if !self.is_there(guest) {
            let number = self.queue.push(guest, deadline, own);
            assert!(!self.left.contains(&number), "a number is given out once");
            self.list.push(Noted { number: Some(number), guest, deadline });
        }
    }

    fn note_left(&mut self, index: usize) -> Noted {
        let noted = self.list.remove(index);
        self.left.extend(noted.number);
        noted
    }

    fn act(&mut self, step: &Step) {
        match *step {
            Step::Push { key, gone, is_one, deadline, own } => {
                let guest = self.guest(key, gone, is_one);
                self.push(guest, Duration::from_secs(deadline), own);
            }
            Step::PushMany(many) => {
                for n in 0..many {
                    let guest = self.guest(0, n % 5 == 0, n % 400 != 3);
                    self.push(guest, Duration::from_secs(50), n % 3 == 0);
                }
            }
            Step::RemoveAt(at) if !self.list.is_empty() => {
                let index = usize::from(at) % self.list.len();
                if let Some(number) = self.list[index].number {
                    let noted = self.note_left(index);
                    assert_eq!(self.queue.remove(number), Some(noted.guest));
                }
            }
            Step::Thin(stays) => {
                let list = std::mem::take(&mut self.list);
                for (index, noted) in list.into_iter().enumerate() {
                    match noted.number {
                        Some(number) if index % usize::from(stays) != 0 => {
                            assert_eq!(self.queue.remove(number), Some(noted.guest));
                            self.left.push(number);
                        }
                        _ => self.list.push(noted),
                    }
                }
            }
            Step::PopDue(now) => {
                let now = Duration::from_secs(now);
                while let Some(guest) = self.queue.pop_due(now) {
                    let index = self.list.iter().position(|noted| noted.guest == guest).expect("it waits");
                    assert!(self.note_left(index).deadline <= now);
                }
                assert!(self.list.iter().all(|noted| noted.deadline > now));
            }
            Step::Purge => {
                let gone: Vec<Noted> = self.list.extract_if(.., |noted| noted.guest.gone).collect();
                let left = self.queue.purge(|guest| guest.gone);
                assert!(left.iter().eq(gone.iter().map(|noted| &noted.guest)));
                self.left.extend(gone.into_iter().filter_map(|noted| noted.number));
            }
            Step::Take => {
                assert!(self.queue.take().eq(self.list.iter().map(|noted| noted.guest)));
                self.left.extend(self.list.drain(..).filter_map(|noted| noted.number));
            }
            Step::Append(many) => {
                let mut other = Waiters::new();
                for n in 0..many {
                    let guest = self.guest(10 + n, false, n % 9 != 0);
                    if !self.is_there(guest) {
                        let deadline = Duration::from_secs(30 + u64::from(n));
                        other.push(guest, deadline, n % 2 == 0);
                        self.list.push(Noted { number: None, guest, deadline });
                    }
                }
                self.queue.append(other);
            }
            Step::Freeze if self.frozen.is_none() => {
                let queue = std::mem::replace(&mut self.queue, Waiters::new());
                self.frozen = Some((queue.freeze(), std::mem::take(&mut self.list)));
                self.left.clear();
            }
            Step::Pop(many) => {
                if let Some((frozen, list)) = &mut self.frozen {
                    let many = usize::from(many).min(list.len());
                    assert!(list.drain(..many).all(|noted| frozen.pop() == Some(noted.guest)));
                    assert!(!list.is_empty() || frozen.pop().is_none());
                }
            }
            Step::Thaw => {
                if let Some((frozen, mut list)) = self.frozen.take() {
                    let newcomers = std::mem::replace(&mut self.queue, frozen.thaw());
                    self.queue.append(newcomers);
                    list.extend(self.list.drain(..).map(|noted| Noted { number: None, ..noted }));
                    self.list = list;
                    self.left.clear();
                }
            }
            Step::TakeGroups => {
                if let Some((frozen, list)) = &mut self.frozen {
                    let groups = list.extract_if(.., |noted| !noted.guest.is_one).map(|noted| noted.guest);
                    assert!(groups.eq(frozen.take_groups()));
                }
            }
            Step::RemoveAt(_) | Step::Freeze => {}
        }
    }

    fn check(&mut self) {
        let callers = |list: &[Noted]| list.iter().filter(|noted| noted.guest.is_one).count();
        let groups = |list: &[Noted]| -> Vec<Guest> {
            list.iter().map(|noted| noted.guest).filter(|guest| !guest.is_one).collect()
        };
        let Self { queue, list, left, frozen, .. } = self;
        assert_eq!(queue.callers(), callers(list));
        assert_eq!(queue.is_empty(), list.is_empty());
        assert_eq!(queue.next_deadline(), list.iter().map(|noted| noted.deadline).min());
        #[cfg(feature = "registry")]
        {
            let last = list.iter().map(|noted| noted.deadline).max();
            assert_eq!(queue.last_deadline().is_some(), last.is_some());
            assert!(queue.last_deadline() >= last);
        }
        assert!(queue.groups().map(|guest| *guest).eq(groups(list)));
        assert!(queue.everybody_mut().map(|guest| *guest).eq(list.iter().map(|noted| noted.guest)));
        for noted in &*list {
            if let Some(number) = noted.number {
                assert_eq!(queue.get_mut(number), Some(&mut { noted.guest }));
            }
        }
        assert!(left.iter().all(|number| queue.get_mut(*number).is_none()));
        assert_eq!(queue.groups.len(), groups(list).len());
        assert_eq!(queue.keys.numbers().count(), list.iter().filter(|noted| noted.guest.key != 0).count());
        let own = queue.own;
        assert!(queue.own_deadlines.len() <= 2 * own + 64);
        let (room, blocks) = queue.line.room();
        assert!(room <= 4 * list.len() + 2 * CHUNK && blocks <= list.len(), "{room} for {}", list.len());
        if let Some((frozen, list)) = frozen {
            assert_eq!(frozen.callers(), callers(list));
            assert_eq!(frozen.is_empty(), list.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_queue_does_what_a_plain_list_does(steps in prop::collection::vec(step(), 1..60)) {
        let mut beside =
            Beside { queue: Waiters::new(), list: Vec::new(), left: Vec::new(), frozen: None, serial: 0 };
        for step in &steps {
            beside.act(step);
            beside.check();
        }
    }
}

fn one(serial: u32, key: u8) -> Guest {
    Guest { serial, key, gone: false, is_one: true }
}

#[test]
fn callers_who_come_and_go_behind_one_who_stays_take_no_room() {
    let mut waiters = Waiters::new();
    let patience = Duration::from_secs(30);
    let stays = waiters.push(one(0, 0), patience, false);
    for (serial, key) in (1..=4_500_000).zip((1..=200).cycle()) {
        let own = serial % 2 == 0;
        let number = waiters.push(one(serial, key), patience, own);
        assert!(waiters.remove(number).is_some());
    }
    let (room, blocks) = waiters.line.room();
    assert!(blocks <= 2, "{blocks} blocks");
    assert!(room <= 2 * CHUNK, "room for {room}");
    assert!(waiters.own_deadlines.capacity() <= 256);
    assert!(waiters.keys.room() <= 1_000);
    assert_eq!(waiters.remove(stays).map(|guest| guest.serial), Some(0));
    assert_eq!(waiters.line.room(), (0, 0));
    assert_eq!(waiters.keys.room(), 0);
}

#[test]
fn callers_with_the_usual_patience_need_nothing_beside_the_line() {
    let mut waiters = Waiters::new();
    let numbers: Vec<u64> = (0..5_000)
        .map(|serial| waiters.push(one(serial, 0), Duration::from_secs(u64::from(serial / 1_000)), false))
        .collect();
    let leave = numbers.iter().step_by(2).map(|number| waiters.remove(*number));
    assert!(leave.into_iter().all(|left| left.is_some()));
    assert_eq!(waiters.own_deadlines.capacity(), 0);
    assert_eq!(waiters.keys.room(), 0);
}

#[test]
fn a_crowd_that_leaves_gives_the_memory_of_its_deadlines_back_in_a_few_steps() {
    let mut waiters = Waiters::new();
    let numbers: Vec<u64> =
        (0..50_000).map(|serial| waiters.push(one(serial, 0), Duration::from_secs(30), true)).collect();
    let (mut before, mut steps) = (waiters.own_deadlines.capacity(), 0);
    for (left, number) in (0..numbers.len()).rev().zip(&numbers) {
        assert!(waiters.remove(*number).is_some());
        let room = waiters.own_deadlines.capacity();
        assert!(room <= 8 * left + 1_024, "room for {room}, where {left} stay");
        steps += usize::from(room != before);
        before = room;
    }
    assert_eq!(before, 0);
    assert!((5..50).contains(&steps), "{steps} steps");
}

#[test]
fn groups_at_the_edge_of_a_block_are_found() {
    let mut waiters = Waiters::new();
    let all: Vec<Guest> = (0..2_050).map(|serial| Guest { is_one: false, ..one(serial, 0) }).collect();
    for guest in &all {
        waiters.push(*guest, Duration::from_secs(30), false);
    }
    assert!(waiters.groups().map(|guest| *guest).eq(all));
}

#[test]
fn one_of_a_thousand_who_stays_takes_little_room() {
    let mut waiters = Waiters::new();
    let numbers: Vec<u64> =
        (0..500_000).map(|serial| waiters.push(one(serial, 0), Duration::from_secs(30), false)).collect();
    let leave = numbers.iter().filter(|number| *number % 1_000 != 0);
    assert!(leave.map(|number| waiters.remove(*number)).all(|left| left.is_some()));
    let (room, blocks) = waiters.line.room();
    assert!(room <= 4 * 500 + CHUNK && blocks <= 500, "room for {room} in {blocks} blocks");
    assert!(waiters.take().map(|guest| guest.serial).eq((0..500_000).step_by(1_000)));
}

#[test]
fn who_joins_with_less_patience_than_those_in_front_is_not_kept_for_longer() {
    let secs = Duration::from_secs;
    let mut waiters = Waiters::new();
    waiters.push(one(1, 0), secs(30), false);
    let mut older = Waiters::new();
    older.push(one(2, 0), secs(10), false);
    waiters.append(older);
    assert_eq!(waiters.next_deadline(), Some(secs(10)));
    assert_eq!(waiters.pop_due(secs(10)), Some(one(2, 0)));
    assert_eq!(waiters.pop_due(secs(29)), None);
    assert_eq!(waiters.pop_due(secs(30)), Some(one(1, 0)));
}

#[test]
fn a_crowd_that_is_dropped_is_dropped_in_order() {
    use std::sync::Mutex;
    static DROPPED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    struct Last(u32);
    impl Drop for Last {
        fn drop(&mut self) {
            DROPPED.lock().unwrap().push(self.0);
        }
    }
    impl Waiter for Last {}
    let mut waiters = Waiters::new();
    for n in 0..3_000 {
        waiters.push(Last(n), Duration::from_secs(1), n % 2 == 0);
    }
    let mut frozen = waiters.freeze();
    assert_eq!(frozen.pop().map(|last| last.0), Some(0));
    drop(frozen);
    assert!(DROPPED.lock().unwrap().iter().copied().eq(0..3_000));
}
