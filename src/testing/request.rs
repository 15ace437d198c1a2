//! Reads a request from a connection.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::reply::Asked;

/// Reads one request: its head, and its body by `Transfer-Encoding: chunked` or by `Content-Length` (RFC 9112
/// section 6.3).
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Asked> {
    let mut input = Input { stream, bytes: Vec::new() };
    let head = input.until(b"\r\n\r\n").await?;
    let mut asked = Asked { head: text(&head), body: String::new() };
    let body = if is_chunked(&asked) {
        input.chunks().await?
    } else {
        let length = asked.header("content-length").and_then(|value| value.parse().ok());
        input.exactly(length.unwrap_or(0)).await?
    };
    asked.body = text(&body);
    Ok(asked)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_chunked(asked: &Asked) -> bool {
    let last = asked.header("transfer-encoding").and_then(|value| value.rsplit(',').next());
    last.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}

struct Input<'a, R> {
    stream: &'a mut R,
    /// Received, and not yet used.
    bytes: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Input<'_, R> {
    async fn receive(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The bytes before `end`. `end` is used, too.
    async fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.bytes.windows(end.len()).position(|window| window == end) {
                let rest = self.bytes.split_off(at + end.len());
                let mut found = std::mem::replace(&mut self.bytes, rest);
                found.truncate(at);
                return Ok(found);
            }
            self.receive().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.bytes.len() < length {
            self.receive().await?;
        }
        let rest = self.bytes.split_off(length);
        Ok(std::mem::replace(&mut self.bytes, rest))
    }

    /// The data of all chunks. The trailer section is skipped (RFC 9112 section 7.1).
    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = text(&self.until(b"\r\n").await?);
            let size = line.split(';').next().unwrap_or_default().trim();
            match usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)? {
                0 => break,
                size => body.extend(self.exactly(size).await?),
            }
            if !self.until(b"\r\n").await?.is_empty() {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        while !self.until(b"\r\n").await?.is_empty() {}
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body, and the bytes that were not read.
    async fn body(head: &str, mut rest: &[u8]) -> io::Result<(String, usize)> {
        let head = format!("POST /api/a HTTP/1.1\r\nHost: a\r\n{head}\r\n");
        let mut stream = head.as_bytes().chain(&mut rest);
        let asked = read(&mut stream).await?;
        assert_eq!((asked.target(), asked.header("host")), ("/api/a", Some("a")));
        Ok((asked.body, rest.len()))
    }

    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

    #[actix::test]
    async fn a_chunked_body_is_read_to_its_last_chunk_and_decoded() {
        let chunks = b"5\r\nhello\r\n7;a=b\r\n\r\nworld\r\n0\r\nA: b\r\nC: d\r\n\r\n";
        assert_eq!(body(CHUNKED, chunks).await.unwrap(), ("hello\r\nworld".to_owned(), 0));
        let coded = "transfer-encoding: gzip, Chunked\r\nContent-Length: 3\r\n";
        assert_eq!(
            body(coded, b"0A\r\n0123456789\r\n0\r\n\r\n").await.unwrap(),
            ("0123456789".to_owned(), 0)
        );
        assert_eq!(body(CHUNKED, b"0\r\n\r\n").await.unwrap(), (String::new(), 0));
    }

    #[actix::test]
    async fn chunks_are_read_from_bytes_that_come_one_by_one() {
        let (mut ours, mut theirs) = tokio::io::duplex(1);
        let request =
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let write = tokio::io::AsyncWriteExt::write_all(&mut theirs, request);
        let (asked, written) = tokio::join!(read(&mut ours), write);
        written.unwrap();
        assert_eq!(asked.unwrap().body, "abcde");
    }

    #[actix::test]
    async fn chunks_that_are_none_or_do_not_end_are_an_error() {
        for wrong in
            ["x\r\nabc\r\n0\r\n\r\n", "-1\r\n", "\r\n", "2\r\nabc\r\n0\r\n\r\n", "ffffffffffffffffff\r\n"]
        {
            let error = body(CHUNKED, wrong.as_bytes()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{wrong:?}");
        }
        for early in ["", "3\r\nab", "3\r\nabc\r\n", "0\r\n", "0\r\nA: b\r\n", "ffffffffffffffff\r\nab"] {
            let error = body(CHUNKED, early.as_bytes()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{early:?}");
        }
    }

    #[actix::test]
    async fn a_body_has_the_length_that_the_head_says() {
        assert_eq!(body("Content-Length: 3\r\n", b"abcde").await.unwrap().0, "abc");
        assert_eq!(body("", b"").await.unwrap().0, "");
        let longest = format!("Content-Length: {}\r\n", usize::MAX);
        let error = body(&longest, b"abc").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
