//! An API's answer with a 401.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};

use crate::challenge::{Verdict, challenges, write};

/// Header lines. The parsed part is bounded, and parsing its standard form again gives the same result.
pub fn challenge(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(line) = HeaderValue::from_bytes(line) {
            headers.append(WWW_AUTHENTICATE, line);
        }
    }
    let found = challenges(&headers);
    assert!(found.len() <= 32, "{} challenges", found.len());
    let text = write(&found);
    assert!(text.len() <= 8 * data.len() + 8, "{} bytes of {}", text.len(), data.len());
    if let Ok(line) = HeaderValue::from_str(&text).or_else(|_| HeaderValue::from_bytes(text.as_bytes())) {
        let again = HeaderMap::from_iter([(WWW_AUTHENTICATE, line)]);
        if text.len() <= 8 * 1024 && found.len() <= 16 {
            assert_eq!(challenges(&again), found, "{text}");
        }
    }
    match Verdict::of(&headers, "Bearer") {
        Verdict::Claims(claims) => assert!(claims.len() <= 8 * 1024),
        Verdict::StepUp(step_up) => {
            let text = step_up.to_string();
            assert!(text.len() < 1_000 && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
        }
        _ => {}
    }
}
