//! The contents of a vault's file.

use super::{LONGEST_ERROR, MARKS, assert_hides};
use crate::vault::{Record, State, VaultError};

/// A vault's file as it is, and a record after its first line. An accepted file is written and read again with the
/// same result. A refused file is not quoted. The records that follow can be written too.
pub fn vault_record(data: &[u8]) {
    match Record::parse(data) {
        Ok(record) => assert_lasts(&record),
        Err(error) => assert_quotes_nothing(&error),
    }
    match Record::from_json(data) {
        Ok(record) => assert_lasts(&record),
        Err(error) => assert_quotes_nothing(&error),
    }
}

fn assert_lasts(record: &Record) {
    assert!(record.generation() > 0 && !record.refresh_token().is_empty());
    let bytes = record.to_bytes().expect("no longer than what was read");
    assert!(Record::parse(&bytes).expect("it was written as it should be") == *record);
    let shown = format!("{record:?}");
    assert!(shown.contains("[redacted]") && !shown.contains(char::is_control), "{shown}");
    let now = std::time::SystemTime::UNIX_EPOCH;
    let spending = record.spending(now);
    let is_last = record.generation() == u64::MAX;
    assert_eq!(spending.is_err(), is_last || matches!(record.state(), State::Dead { .. }));
    for record in [spending, record.idle(), record.next(None, None), record.dead("no", now)] {
        match record {
            Ok(record) => assert!(Record::parse(&record.to_bytes().expect("it is short")).is_ok()),
            Err(error) => assert_quotes_nothing(&error),
        }
    }
}

#[track_caller]
fn assert_quotes_nothing(error: &VaultError) {
    let text = error.to_string();
    assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{text:?}");
    assert!(text.len() <= LONGEST_ERROR, "{} bytes", text.len());
    assert_hides(error, &MARKS);
}
