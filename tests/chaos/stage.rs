//! The place where the actors start and end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use actix::prelude::ArbiterHandle;
use tokenflight::{Shutdown, Token, TokenHandle};
use tokio::task::JoinHandle;

use crate::World;
use crate::start::{Contact, Ground, Place, start};
use crate::tally::now;

const POSTS: [Place; 6] =
    [Place::Thread, Place::Arbiter, Place::System, Place::Supervised, Place::Shared, Place::Shared];

/// Long enough that only a hang exceeds it.
pub(crate) const NEVER: Duration = Duration::from_secs(10);

pub(crate) struct Stage {
    server: SocketAddr,
    /// One actor each, replaced by the next when it has gone.
    posts: Vec<RwLock<Option<Contact>>>,
    started: AtomicU64,
}

impl Stage {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let posts = POSTS.iter().map(|_| RwLock::new(None)).collect();
        Self { server, posts, started: AtomicU64::new(0) }
    }

    pub(crate) fn server(&self) -> SocketAddr {
        self.server
    }

    /// The actor on a random post. It may have stopped.
    pub(crate) fn anyone(&self, dice: &mut fastrand::Rng) -> Contact {
        let post = &self.posts[dice.usize(..self.posts.len())];
        post.read().unwrap().clone().expect("the callers come after the first actors")
    }

    fn put(&self, post: usize, contact: Contact) {
        *self.posts[post].write().unwrap() = Some(contact);
    }
}

/// Reads every actor's token each millisecond, on a thread of its own. A good token that nobody has discarded can be
/// read, but for a second after an invalidation.
pub(crate) fn read_all_the_time(world: &Arc<World>) {
    let world = Arc::clone(world);
    std::thread::spawn(move || {
        // For each post: which token could not be read, and since when.
        let mut missed: Vec<Option<(Token, Duration)>> = POSTS.iter().map(|_| None).collect();
        loop {
            std::thread::sleep(Duration::from_millis(1));
            for (post, missed) in world.stage.posts.iter().zip(&mut missed) {
                let contact = post.read().unwrap();
                let handle = contact.as_ref().and_then(|contact| contact.handle.as_ref());
                let Some(token) = handle.and_then(out_of_sight) else {
                    *missed = None;
                    continue;
                };
                match missed {
                    Some((before, since)) if before.is_same(&token) => {
                        world.tally.withheld_for(now().saturating_sub(*since));
                    }
                    _ => *missed = Some((token, now())),
                }
            }
        }
    });
}

/// A good token that readers do not find.
fn out_of_sight(handle: &TokenHandle) -> Option<Token> {
    let watch = handle.watch();
    let token = watch.current()?;
    if handle.current().is_some() {
        return None;
    }
    // It was there before the look and after it, and was usable all the time.
    let still = watch.current().is_some_and(|other| other.is_same(&token));
    let left = token.remaining().unwrap_or_default();
    let life = token.age() + left;
    (still && left > life / 10 + Duration::from_millis(2)).then_some(token)
}

/// Starts the first actors, and who replaces them. The managers end when it is over, and their actors then.
pub(crate) async fn begin(world: &Arc<World>, shared: &ArbiterHandle) -> Vec<JoinHandle<()>> {
    let mut managers = Vec::new();
    for (post, place) in POSTS.into_iter().enumerate() {
        let world = Arc::clone(world);
        let first = launch(&world, post, place, shared).await;
        let shared = shared.clone();
        managers.push(actix_rt::spawn(async move {
            let mut dice = world.dice(u64::MAX - post as u64);
            let mut life = first;
            loop {
                live(&world, &life.contact, &mut dice).await;
                if world.is_over() {
                    break shut_down(&world, life).await;
                }
                life = replace(&world, life, &mut dice, || launch(&world, post, place, &shared)).await;
            }
        }));
    }
    managers
}

struct Life {
    contact: Contact,
    ground: Ground,
}

/// One of the ways in which an actor ends. Its callers may have met the next one before, or not.
async fn replace<F: Future<Output = Life>>(
    world: &World,
    life: Life,
    dice: &mut fastrand::Rng,
    launch: impl FnOnce() -> F,
) -> Life {
    let has_ground = !matches!(life.ground, Ground::None);
    match dice.u8(..3) {
        0 if has_ground => lose_ground(world, life).await,
        1 if life.contact.handle.is_some() => {
            let next = launch().await;
            abandon(world, life).await;
            return next;
        }
        _ => shut_down(world, life).await,
    }
    launch().await
}

async fn shut_down(world: &World, life: Life) {
    world.tally.count("actors shut down");
    let _ = within(world, "a shutdown", life.contact.addr.send(Shutdown)).await;
    remove(world, life.ground).await;
}

async fn lose_ground(world: &World, life: Life) {
    world.tally.count("actors whose arbiter or System was stopped");
    remove(world, life.ground).await;
}

/// The last handle goes, and then the actor has to.
async fn abandon(world: &World, Life { contact, ground }: Life) {
    world.tally.count("actors abandoned");
    let Some(mut watch) = contact.handle.as_ref().map(TokenHandle::watch) else { return };
    drop(contact);
    let gone = async { while watch.changed().await.is_ok() {} };
    within(world, "the end of an abandoned actor", gone).await;
    remove(world, ground).await;
}

async fn remove(world: &World, ground: Ground) {
    ground.stop();
    let joined = tokio::task::spawn_blocking(|| ground.join());
    if let Some(Err(panic)) = within(world, "the end of a thread", joined).await {
        world.tally.breach(format!("a thread of the actors panicked: {panic}"));
    }
}

/// What has to end at once, or in a caller's patience.
pub(crate) async fn within<F: Future>(world: &World, what: &str, future: F) -> Option<F::Output> {
    let ended = tokio::time::timeout(NEVER, future).await.ok();
    if ended.is_none() {
        world.tally.breach(format!("{what} did not come in {NEVER:?}"));
    }
    ended
}

async fn launch(world: &Arc<World>, post: usize, place: Place, shared: &ArbiterHandle) -> Life {
    let number = world.stage.started.fetch_add(1, Ordering::SeqCst);
    world.tally.count("actors started");
    let (contact, ground) = start(world, number, place, shared).await;
    world.stage.put(post, contact.clone());
    Life { contact, ground }
}

/// A while passes, in which one under a `Supervisor` is restarted now and then.
async fn live(world: &World, contact: &Contact, dice: &mut fastrand::Rng) {
    for _ in 0..dice.u32(1..=4) {
        tokio::time::sleep(Duration::from_millis(dice.u64(50..800))).await;
        if world.is_over() {
            return;
        }
        if contact.handle.is_none() {
            world.tally.count("actors restarted by a Supervisor");
            let _ = within(world, "a restart", contact.addr.send(Shutdown)).await;
        }
    }
}
