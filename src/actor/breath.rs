//! A pause in which the arbiter's other tasks run.

/// The pause ends when every ready task has run, and the runtime has polled timers and sockets.
///
/// `yield_now` in the actor's own task is not enough. Any wake-up of that task, for example by a message from
/// another thread, ends the pause. But the runtime runs the yielded tasks, and polls timers and sockets, only when
/// no task is awake. A separate task is woken by nothing else.
pub(crate) async fn yield_turn() {
    // The task is cancelled together with its arbiter. Then the actor is cancelled too.
    let _ = tokio::task::spawn_local(tokio::task::yield_now()).await;
}
