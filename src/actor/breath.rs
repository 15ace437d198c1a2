//! A pause in which the arbiter's other tasks run.

/// Ends when every task that is ready has run, and the runtime has looked for timers and sockets.
///
/// `yield_now` in the actor's own task would not do: whatever wakes that task, a message from another thread
/// say, ends the pause, while the runtime looks after those who yielded, and after timers and sockets, only
/// once nobody is awake. A task of its own is woken by nothing else.
pub(crate) async fn yield_turn() {
    // It is cancelled with its arbiter, and then the actor is, too.
    let _ = tokio::task::spawn_local(tokio::task::yield_now()).await;
}
