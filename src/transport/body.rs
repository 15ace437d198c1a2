//! Reads a body up to a limit, into memory that is wiped.

use zeroize::Zeroizing;

/// The initial capacity if the server does not give the length of its answer.
const FIRST_ROOM: usize = 4 * 1024;
/// The maximum initial capacity, whatever length the server gives.
const LARGEST_FIRST_ROOM: usize = 64 * 1024;

#[derive(Debug)]
pub(super) enum BodyError {
    TooLong,
    Broken(reqwest::Error),
}

pub(super) async fn read(
    response: &mut reqwest::Response,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let announced = response.content_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLong);
    }
    let mut body = Zeroizing::new(Vec::with_capacity(
        announced.unwrap_or(FIRST_ROOM).min(limit).min(LARGEST_FIRST_ROOM),
    ));
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if chunk.len() > limit - body.len() {
            return Err(BodyError::TooLong);
        }
        append(&mut body, &chunk);
    }
    Ok(body)
}

/// A `Vec` that grows by itself leaves its old memory unwiped. This function wipes the old memory.
fn append(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    let needed = body.len() + chunk.len();
    if needed > body.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(body.capacity() * 2)));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(chunk);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_keeps_all_of_it() {
        let mut body = Zeroizing::new(Vec::with_capacity(2));
        for chunk in ["a", "bc", "", "defghijkl"] {
            append(&mut body, chunk.as_bytes());
        }
        assert_eq!(body.as_slice(), b"abcdefghijkl");
    }
}
