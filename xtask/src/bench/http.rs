//! The little of HTTP/1.1 that a load generator needs: one POST a connection, the answer's body as it arrives.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// How long a server may stay silent. Long: a server that computes sixteen prompts in a row says nothing meanwhile.
const SILENCE_MAX: Duration = Duration::from_secs(600);
/// Bytes of a line of the header or of a chunk's length.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Bytes of an answer that says what is wrong.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;

/// Stands for the first chunk, whose length comes directly behind the header and not behind another chunk.
const FIRST: u64 = u64::MAX;

/// The body of an answer, decoded while it arrives.
pub(crate) struct Body {
    from: BufReader<TcpStream>,
    left: Left,
}

/// What of a body is still to come.
enum Left {
    /// This many bytes.
    Bytes(u64),
    /// This many of the current chunk, then more chunks; [`FIRST`] before the first one.
    Chunk(u64),
    /// Whatever comes until the connection closes.
    Open,
}

/// Sends `body` as JSON and gives back the answer's body once its header says 200.
pub(crate) fn post(address: SocketAddr, path: &str, body: &serde_json::Value) -> Result<BufReader<Body>> {
    post_within(address, path, body, SILENCE_MAX)
}

/// As [`post`], to a server that may stay silent for so long.
pub(crate) fn post_within(
    address: SocketAddr,
    path: &str,
    body: &serde_json::Value,
    silence: Duration,
) -> Result<BufReader<Body>> {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    send(address, &[head.as_bytes(), body.as_bytes()].concat(), silence)
}

/// Asks for a page and gives back all of it.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut text = String::new();
    send(address, head.as_bytes(), SILENCE_MAX)?.read_to_string(&mut text)?;
    Ok(text)
}

fn send(address: SocketAddr, request: &[u8], silence: Duration) -> Result<BufReader<Body>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(silence))?;
    stream.write_all(request)?;
    let mut from = BufReader::new(stream);
    let status = line(&mut from)?;
    let code = status.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut left = Left::Open;
    loop {
        let header = line(&mut from)?;
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else { bail!("`{header}` is no header") };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => left = Left::Bytes(value.trim().parse()?),
            "transfer-encoding" if value.trim().eq_ignore_ascii_case("chunked") => left = Left::Chunk(FIRST),
            _ => {}
        }
    }
    let body = Body { from, left };
    if code != "200" {
        let mut complaint = String::new();
        let _ = body.take(COMPLAINT_BYTES_MAX).read_to_string(&mut complaint);
        bail!("the server answered `{status}`: {}", complaint.trim());
    }
    Ok(BufReader::new(body))
}

/// A line without its end.
fn line(from: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    from.take(LINE_BYTES_MAX).read_line(&mut line)?;
    ensure!(line.ends_with('\n'), "the connection closed within a header");
    Ok(line.trim_end().to_owned())
}

impl Body {
    /// Reads the length of the next chunk; zero is the end.
    fn next_chunk(&mut self, first: bool) -> Result<u64> {
        if !first {
            line(&mut self.from)?;
        }
        let length = line(&mut self.from)?;
        let digits = length.split(';').next().unwrap_or_default().trim();
        u64::from_str_radix(digits, 16).with_context(|| format!("`{length}` is no chunk's length"))
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if let Left::Chunk(left @ (0 | FIRST)) = self.left {
            let next = self.next_chunk(left == FIRST).map_err(std::io::Error::other)?;
            self.left = if next == 0 { Left::Bytes(0) } else { Left::Chunk(next) };
        }
        let max = match self.left {
            Left::Bytes(left) | Left::Chunk(left) => {
                into.len().min(usize::try_from(left).unwrap_or(usize::MAX))
            }
            Left::Open => into.len(),
        };
        let read = self.from.read(&mut into[..max])?;
        if let Left::Bytes(left) | Left::Chunk(left) = &mut self.left {
            if read == 0 && 0 < max {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            *left -= read as u64;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
