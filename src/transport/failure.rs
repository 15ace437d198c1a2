//! The description of a failure in one sentence: causes, statuses, and the time of the next try.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::{Limit, printable};
use crate::error::{Reach, SourceError};

/// The failure of an exchange that got no answer, or half of one.
pub(super) fn network(error: reqwest::Error, shown: &str, limit: Limit) -> SourceError {
    // reqwest adds the URL to its text, with the query.
    let error = error.without_url();
    let cause = root_cause(&error);
    let reach = if error.is_connect() || error.is_builder() { Reach::Unused } else { Reach::Lost };
    let error = match () {
        () if error.is_connect() && error.is_timeout() => SourceError::transient(format!(
            "cannot connect to {shown}: no connection within `connect_timeout`"
        )),
        () if error.is_connect() => SourceError::transient(format!("cannot connect to {shown}: {cause}")),
        () if error.is_timeout() => {
            let Limit { time, name } = limit;
            SourceError::timed_out(format!("no answer within {time:?} ({name}) from {shown}"))
        }
        () if error.is_builder() => {
            SourceError::terminal(format!("the request to {shown} cannot be made: {cause}"))
        }
        () if error.is_body() || error.is_decode() => {
            SourceError::transient(format!("the answer of {shown} broke off: {cause}"))
        }
        () => SourceError::transient(format!("the exchange with {shown} failed: {cause}")),
    };
    error.that(reach)
}

/// The innermost error names the reason. The errors around it only say "error sending request".
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    printable(&root.to_string(), 200)
}

/// A refusal that may end without any action.
pub(crate) fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}

/// RFC 9110 section 10.2.3: seconds, or a date. Any other text is ignored.
pub(crate) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number with too many digits still means "very long".
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    // Outside of the standard: a fraction, which is rounded up.
    if let Some((seconds, fraction)) = text.split_once('.') {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number(seconds) && is_number(fraction) {
            let seconds: u64 = seconds.parse().unwrap_or(u64::MAX);
            let more = u64::from(fraction.bytes().any(|byte| byte != b'0'));
            return Some(Duration::from_secs(seconds.saturating_add(more)));
        }
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        for (text, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("99999999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("30.5", Some(31)),
            ("30.0", Some(30)),
            ("99999999999999999999999999.5", Some(u64::MAX)),
            ("1.", None),
            (".5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn only_time_cures_5xx_408_425_and_429() {
        for (status, expected) in [
            (400, false),
            (401, false),
            (404, false),
            (408, true),
            (425, true),
            (429, true),
            (500, true),
            (503, true),
        ] {
            assert_eq!(may_pass(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }

    #[test]
    fn foreign_text_stays_on_one_line() {
        assert_eq!(printable("a\r\nb\u{1b}[31m\u{202e}c", 80), "a??b?[31m?c");
        assert_eq!(printable(&"x".repeat(300), 200).len(), 203);
    }
}
