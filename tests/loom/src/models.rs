//! The models.

mod lobby;
mod observers;
mod slot;

/// One model, and what its interleavings must have shown.
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) run: fn(),
    /// A thread is taken from its processor so often, at most. `None`: every interleaving is tried.
    pub(crate) preemptions: Option<usize>,
    pub(crate) sees: &'static [&'static str],
}

macro_rules! models {
    ($($file:ident::$name:ident($preemptions:expr) sees $sees:expr;)*) => {
        pub(crate) const ALL: &[Model] = &[$(
            Model { name: stringify!($name), run: $file::$name, preemptions: $preemptions, sees: &$sees },
        )*];
    };
}

models! {
    lobby::two_sit_down_while_a_round_closes(Some(4)) sees ["one round", "two rounds"];
    lobby::one_leaves_and_one_moves_while_the_round_closes(None) sees ["left in time", "left too late"];
    lobby::time_runs_out_while_one_leaves_and_one_moves(None) sees ["timed out", "answered"];
    lobby::time_runs_out_while_one_sits_down(None) sees ["timed out", "answered"];
    slot::a_publication_does_not_cross_a_report(None) sees ["found before the decision", "found after the decision", "withheld"];
    slot::a_publication_does_not_undo_a_discard(None) sees ["published before", "published after"];
    slot::each_report_is_taken_once_and_in_time(None) sees ["taken early", "taken in time", "taken late"];
    slot::two_reports_and_a_publication_agree(None) sees ["reported by name", "laid on the desk"];
    slot::a_report_does_not_silence_readers(None) sees ["the report came first", "the report came last"];
    observers::an_observer_hears_of_the_last_change(None) sees ["one change", "two changes"];
    observers::an_observer_who_hears_of_the_end_sees_no_token(None) sees ["one change", "two changes"];
}
