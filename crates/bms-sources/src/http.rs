//! Requests to strangers: where they may go, what they may answer.

use std::path::PathBuf;
use std::time::Duration;

use bms_wire::{Code, Error, Result, limits, tls};
use ureq::http::HeaderMap;
use url::{Host, Url};

use crate::auth::Scope;
use crate::retry::{Failure, Tries};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may stay silent.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Characters of a peer's own words in a message.
const QUOTE_CHARS_MAX: usize = 200;

/// How requests are made.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// PEM file of the certificate authorities to trust, instead of the system's.
    pub authority: Option<PathBuf>,
    /// The proxy for hosts other than this machine.
    pub proxy: Option<ureq::Proxy>,
    /// Whether other machines may be asked without encryption.
    pub plain: bool,
}

/// A client that keeps its connections. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Http {
    /// For this machine.
    near: ureq::Agent,
    /// For others.
    far: ureq::Agent,
    /// Why there is no TLS.
    without_tls: Option<(Code, String)>,
    plain: bool,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) url: &'a Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) scope: Option<&'a Scope>,
    /// Whether a 401 is an answer, because its challenge can be met.
    pub(crate) challenged: bool,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Headers of the first answer, which came from the source itself, whatever it redirected to.
    pub(crate) first: HeaderMap,
    pub(crate) body: ureq::Body,
}

impl Answer {
    /// A header's text.
    pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
        headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The length its head promises.
    pub(crate) fn length(&self) -> Option<u64> {
        Answer::text(&self.headers, "content-length").and_then(|text| text.trim().parse().ok())
    }
}

impl<'a> Ask<'a> {
    pub(crate) fn get(url: &'a Url, scope: Option<&'a Scope>) -> Ask<'a> {
        Ask { url, headers: Vec::new(), scope, challenged: false }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Ask<'a> {
        self.headers.push((name, value.into()));
        self
    }
}

impl Http {
    /// A client. Whether there are certificate authorities is found out now, but told only when they are needed.
    ///
    /// # Errors
    /// When a file of authorities was named and cannot be used.
    pub fn new(options: &HttpOptions) -> Result<Http> {
        let (tls, without_tls) = match tls::blocking(options.authority.as_deref()) {
            Ok(tls) => (Some(tls), None),
            Err(error) if options.authority.is_some() => return Err(error),
            Err(error) => (None, Some((error.code(), error.message().to_owned()))),
        };
        let agent = |proxy: Option<ureq::Proxy>| {
            let mut config = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .proxy(proxy)
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_per_read(Some(STALL_TIMEOUT))
                .timeout_per_write(Some(STALL_TIMEOUT))
                .user_agent(concat!("bms/", env!("CARGO_PKG_VERSION")));
            if let Some(tls) = &tls {
                config = config.tls_config(tls.clone());
            }
            ureq::Agent::from(config.build())
        };
        let (near, far) = (agent(None), agent(options.proxy.clone()));
        Ok(Http { near, far, without_tls, plain: options.plain })
    }

    /// Whether an address may be asked.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`] without encryption, [`Code::InvalidRequest`] for another scheme.
    pub(crate) fn check(&self, url: &Url) -> Result<()> {
        match url.scheme() {
            "https" => self.without_tls.as_ref().map_or(Ok(()), |(code, what)| Err(Error::new(*code, what))),
            "http" if is_loopback(url) || self.plain => Ok(()),
            "http" => {
                let what = format!("`{}` would be asked without encryption", shown(url));
                Err(Error::new(Code::PermissionDenied, what)
                    .hint("Use https://, or allow it with --insecure-http: anybody on the way can change what comes."))
            }
            scheme => Err(Error::new(Code::InvalidRequest, format!("`{scheme}://` cannot be asked"))),
        }
    }

    /// Sends a request, and follows redirections.
    pub(crate) fn send(&self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        self.check(ask.url)?;
        let mut url = ask.url.clone();
        let mut first: Option<HeaderMap> = None;
        for _ in 0..=limits::REDIRECTS_MAX {
            let response = self.once(ask, &url)?;
            let status = response.status().as_u16();
            let (head, body) = response.into_parts();
            let first_headers = first.get_or_insert_with(|| head.headers.clone()).clone();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                let answer = Answer { status, headers: head.headers, first: first_headers, body };
                return judge(answer, &url, ask.challenged);
            }
            url = self.redirected(&url, &head.headers)?;
        }
        let what = format!("`{}` redirects over {} times", shown(ask.url), limits::REDIRECTS_MAX);
        Err(Error::new(Code::Unavailable, what).into())
    }

    fn once(&self, ask: &Ask<'_>, url: &Url) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        let agent = if is_loopback(url) { &self.near } else { &self.far };
        let mut request = agent.get(url.as_str()).header("accept-encoding", "identity");
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(header) = ask.scope.and_then(|scope| scope.header(url)) {
            request = request.header("authorization", header);
        }
        request.call().map_err(|e| broken(url, e))
    }

    /// Where a redirection leads: never from an encrypted connection to a plain one, nor from elsewhere to this machine.
    fn redirected(&self, from: &Url, headers: &HeaderMap) -> Result<Url> {
        let wrong = |what: &str| Error::new(Code::Unavailable, format!("`{}` {what}", shown(from)));
        let location = Answer::text(headers, "location").ok_or_else(|| wrong("redirects to nowhere"))?;
        let to = from.join(location).map_err(|e| wrong("redirects to a malformed address").because(e))?;
        self.check(&to)?;
        if from.scheme() == "https" && to.scheme() != "https" {
            return Err(wrong("redirects to a connection without encryption"));
        }
        if !is_loopback(from) && is_loopback(&to) {
            return Err(wrong("redirects to this machine itself"));
        }
        Ok(to)
    }

    /// The whole of a small answer, tried again while that may help.
    ///
    /// # Errors
    /// What the source answered; [`Code::TooLarge`] over `limit` bytes.
    pub(crate) fn small(&self, ask: &Ask<'_>, limit: usize, mut tries: Tries) -> Result<(Answer, Vec<u8>)> {
        loop {
            let tried = self.send(ask).and_then(|mut answer| {
                let body = answer.body.with_config().limit(limit as u64).read_to_vec();
                match body {
                    Ok(body) => Ok((answer, body)),
                    Err(ureq::Error::BodyExceedsLimit(_)) => {
                        let what = format!("`{}` answers with over {limit} bytes", shown(ask.url));
                        Err(Error::new(Code::TooLarge, what).into())
                    }
                    Err(e) => Err(broken(ask.url, e)),
                }
            });
            match tried {
                Ok(answer) => return Ok(answer),
                Err(failure) => tries.again(failure)?,
            }
        }
    }
}

/// Whether an address is of this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// An address for a message: a query may hold a signature.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// What a connection that failed means.
pub(crate) fn broken(url: &Url, error: ureq::Error) -> Failure {
    let (code, passing) = match &error {
        ureq::Error::Timeout(_) => (Code::DeadlineExceeded, true),
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::BodyStalled => {
            (Code::Unavailable, true)
        }
        ureq::Error::Protocol(_) => (Code::Unavailable, true),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => (Code::InvalidRequest, false),
        _ => (Code::Unavailable, false),
    };
    let failed = Error::new(code, format!("`{}` cannot be reached: {error}", shown(url)))
        .hint("Check the address and the network; the same command goes on where it stopped.")
        .because(error);
    if passing { Failure::Passing(failed, None) } else { Failure::Lasting(failed) }
}

/// Answers that are refusals become errors.
fn judge(mut answer: Answer, url: &Url, challenged: bool) -> Result<Answer, Failure> {
    let status = answer.status;
    if matches!(status, 200 | 206 | 416) || (challenged && status == 401) {
        return Ok(answer);
    }
    let reason = Answer::text(&answer.headers, "x-error-code").map(str::to_owned);
    let said = Answer::text(&answer.headers, "x-error-message").map(str::to_owned);
    let said = said.unwrap_or_else(|| {
        let body = answer.body.with_config().limit(4096).lossy_utf8(true).read_to_string();
        body.unwrap_or_default()
    });
    let said: String = said.chars().filter(|c| !c.is_control()).take(QUOTE_CHARS_MAX).collect();
    let what = format!("`{}` answers with HTTP status {status}: {said}", shown(url));
    let pause = Answer::text(&answer.headers, "retry-after")
        .and_then(|text| text.trim().parse().ok())
        .map(Duration::from_secs);
    let lasting = |code: Code, hint: &str| Err(Failure::Lasting(Error::new(code, what.clone()).hint(hint)));
    match (status, reason.as_deref()) {
        (401 | 403, Some("GatedRepo")) => lasting(
            Code::PermissionDenied,
            "Its owner lets in who asked: accept the terms on the repository's page, and give a token.",
        ),
        (401, _) => lasting(
            Code::Unauthenticated,
            "It does not exist, or needs a token: set HF_TOKEN, or name a file with --token-file.",
        ),
        (403, _) => lasting(Code::PermissionDenied, "The token may not read this."),
        (404, Some("RevisionNotFound")) => {
            lasting(Code::NotFound, "There is no such branch, tag or commit; check what follows `@`.")
        }
        (404 | 410, _) => lasting(Code::NotFound, "Check the name, the revision and the file."),
        (408 | 425 | 429 | 500..=599, _) => {
            let code = if status == 429 { Code::QueueFull } else { Code::Unavailable };
            let hint =
                "The source is overloaded or being repaired; the same command goes on where it stopped.";
            Err(Failure::Passing(Error::new(code, what).hint(hint), pause))
        }
        _ => lasting(Code::Unavailable, "The source does not answer as it should."),
    }
}
