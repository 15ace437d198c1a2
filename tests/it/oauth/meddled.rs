//! Promise 14 where somebody meddles with the vault while a refresh token is on its way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokenflight::source::{AfterCrash, NeedsLogin};
use tokenflight::vault::{
    MemoryVault, Record, RefreshTokenStore, Stamp, State, Stored, Swap, VaultError, VaultLock,
};

use super::rotation::{Family, family, lock, next, source, stored};

/// What happens just before a swap.
#[derive(Clone)]
enum Meddling {
    Nothing,
    /// The vault is as it was before anybody logged in.
    Emptied,
    /// Another program puts its login there.
    Replaced(Box<Record>),
    Fails,
}

/// A vault in which something happens before each swap, without the lock.
#[derive(Clone)]
struct Meddled {
    vault: Arc<Mutex<MemoryVault>>,
    /// The last one comes first.
    swaps: Arc<Mutex<Vec<Meddling>>>,
    locks: Arc<Mutex<usize>>,
}

impl Meddled {
    fn new(swaps: impl IntoIterator<Item = Meddling>) -> Self {
        let mut swaps: Vec<_> = swaps.into_iter().collect();
        swaps.reverse();
        let (vault, swaps) = (Arc::new(Mutex::new(MemoryVault::new())), Arc::new(Mutex::new(swaps)));
        Self { vault, swaps, locks: Arc::default() }
    }

    fn empty(&self) {
        *self.vault.lock().unwrap() = MemoryVault::new();
    }

    fn now(&self) -> MemoryVault {
        self.vault.lock().unwrap().clone()
    }
}

impl RefreshTokenStore for Meddled {
    async fn lock(&self, limit: Duration) -> Result<VaultLock, VaultError> {
        *self.locks.lock().unwrap() += 1;
        self.now().lock(limit).await
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        self.now().load().await
    }

    async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        let meddling = self.swaps.lock().unwrap().pop().unwrap_or(Meddling::Nothing);
        match meddling {
            Meddling::Nothing => {}
            Meddling::Emptied => self.empty(),
            Meddling::Replaced(other) => {
                self.empty();
                let mut stamp = None;
                // Its stamps begin anew: this one is none that was there before.
                for _ in 0..10 {
                    let Swap::Done(done) = self.now().swap(stamp.as_ref(), &other).await.unwrap() else {
                        panic!("nobody else writes")
                    };
                    stamp = Some(done);
                }
            }
            Meddling::Fails => return Err(VaultError::unavailable("the disc is full")),
        }
        self.now().swap(expected, record).await
    }
}

#[actix::test]
async fn a_vault_that_is_emptied_is_not_given_the_first_refresh_token_again() {
    let (family, server) = family(0);
    let vault = Meddled::new([]);
    let source = source(&server, vault.clone(), 0, AfterCrash::TryOnce);
    let token = next(&source, None).await.unwrap();
    vault.empty();
    for _ in 0..2 {
        let error = next(&source, Some(&token)).await.unwrap_err();
        assert_eq!(error.cause::<NeedsLogin>().unwrap().generation, None, "{error}");
    }
    assert_eq!(lock(&family).arrived[&1], 1, "it was spent long ago");
    lock(&family).current = 7;
    source.log_in("refresh-7").await.unwrap();
    next(&source, Some(&token)).await.unwrap();
}

#[actix::test]
async fn nor_is_one_that_is_emptied_while_the_server_refuses() {
    let (family, server) = family(0);
    lock(&family).is_revoked = true;
    let vault = Meddled::new([]);
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    // The login, spending; then `invalid_grant` makes it look again.
    vault.swaps.lock().unwrap().extend([Meddling::Emptied]);
    let emptied = Arc::clone(&vault.vault);
    let error = next(&source, None).await;
    *emptied.lock().unwrap() = MemoryVault::new();
    assert!(error.unwrap_err().cause::<NeedsLogin>().is_some());
    assert!(next(&source, None).await.unwrap_err().cause::<NeedsLogin>().is_some());
    assert_eq!(lock(&family).arrived[&1], 1);
}

#[actix::test]
async fn a_new_token_is_written_into_a_vault_that_was_emptied_meanwhile() {
    let (family, server) = family(0);
    // The login, spending, the next generation.
    let vault = Meddled::new([Meddling::Nothing, Meddling::Nothing, Meddling::Emptied]);
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let token = next(&source, None).await.unwrap();
    let record = stored(&vault).await;
    assert_eq!((record.generation(), record.refresh_token()), (2, "refresh-2"));
    assert_eq!(next(&source, Some(&token)).await.unwrap().secret(), "access-2");
    assert!(lock(&family).arrived.values().all(|times| *times == 1));
}

#[actix::test]
async fn a_login_of_another_client_that_comes_in_between_is_not_sent() {
    let (family, server) = family(0);
    let foreign = Record::first("refresh-1", "https://other.example/token", "app").unwrap();
    for at in 1..=2 {
        let meddling = (0..3).map(|swap| match swap {
            swap if swap == at => Meddling::Replaced(Box::new(foreign.clone())),
            _ => Meddling::Nothing,
        });
        let vault = Meddled::new(meddling);
        let source = source(&server, vault.clone(), 0, AfterCrash::TryOnce);
        let error = next(&source, None).await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains("https://other.example"), "{error}");
        assert_eq!(stored(&vault).await, foreign, "it belongs to somebody else");
        assert_eq!(lock(&family).arrived.values().sum::<u32>(), at - 1, "before the request, after it");
        *lock(&family) = Family::at(1);
    }
}

#[actix::test]
async fn a_login_that_comes_in_between_is_the_one_that_is_used() {
    let (family, server) = family(0);
    let another = Record::first("refresh-7", server.token_url(), "app").unwrap();
    // First before spending, then before the next generation.
    for at in 1..=2 {
        *lock(&family) = Family::at(if at == 1 { 7 } else { 1 });
        let meddling = (0..3).map(|swap| match swap {
            swap if swap == at => Meddling::Replaced(Box::new(another.clone())),
            _ => Meddling::Nothing,
        });
        let vault = Meddled::new(meddling);
        let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
        let shared = Arc::clone(&family);
        let token = next(&source, None).await;
        if at == 1 {
            assert_eq!(token.unwrap().secret(), "access-1");
            assert_eq!(stored(&vault).await.generation(), 2);
        } else {
            // The server of this test knows one login only.
            token.unwrap_err();
        }
        assert_eq!(stored(&vault).await.login(), another.login());
        assert!(lock(&shared).arrived.values().all(|times| *times == 1));
    }
}

#[actix::test]
async fn one_task_alone_saves_what_could_not_be_saved() {
    const FETCHES: usize = 20;
    let (_family, server) = family(0);
    let fails = std::iter::repeat_n(Meddling::Fails, 200);
    let vault = Meddled::new([Meddling::Nothing, Meddling::Nothing].into_iter().chain(fails));
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let token = next(&source, None).await.unwrap();
    for _ in 0..FETCHES {
        next(&source, Some(&token)).await.unwrap_err();
    }
    *vault.locks.lock().unwrap() = 0;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let locks = *vault.locks.lock().unwrap();
    assert!((3..=4).contains(&locks), "it is written again each second, and not {locks} times");
}

#[actix::test]
async fn the_last_possible_generation_is_not_spent() {
    let (family, server) = family(0);
    let first = Record::first("refresh-1", server.token_url(), "app").unwrap();
    let text = String::from_utf8(first.to_bytes().unwrap().to_vec()).unwrap();
    let body = format!(
        "{}\n",
        text.lines().nth(1).unwrap().replace("\"generation\":1", &format!("\"generation\":{}", u64::MAX))
    );
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
    let hash = hash.as_ref().iter().fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
    let last = Record::parse(format!("{{\"tokenflight_vault\":1,\"sha256\":\"{hash}\"}}\n{body}").as_bytes())
        .unwrap();
    let vault = MemoryVault::new();
    assert!(matches!(vault.swap(None, &last).await.unwrap(), Swap::Done(_)));
    let error = next(&source(&server, vault.clone(), 0, AfterCrash::NeedsLogin), None).await.unwrap_err();
    assert!(error.to_string().contains("no generation can follow"), "{error}");
    assert!(lock(&family).arrived.is_empty());
    assert_eq!(stored(&vault).await.state(), &State::Idle);
}
