//! Witnesses outside of the deployment (c2sp.org/tlog-witness): they are handed each new head with a proof that it
//! extends the last one that they saw, and cosign it.
//!
//! No release waits for them: each is asked by a task of its own, at its own pace. Nothing that they say is trusted but
//! a cosignature that verifies under the configured key. It does not matter to that who answers, so that the address may
//! be plain `http`; with `https` the system's own certificates decide, which an operator can add a private authority to.
//!
//! The client is hyper's, with rustls: both are what the rest of this process speaks with; it keeps the connection, as
//! the specification asks, and an answer that hangs is given up by dropping it.

use std::{sync::Arc, time::Duration};

use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rutli_log::{Cosignature, Cosigner, Hash, SignedCheckpoint};
use signed_note::Signature;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    config::Witness,
    error::{Error, Result},
    limits,
};

/// A witness, and what is known of it.
#[derive(Debug)]
pub struct OutsideWitness {
    cosigner: Cosigner,
    endpoint: Uri,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// The tree that it cosigned last, as far as it is known; 0 has it tell.
    size: u64,
    /// Errors in a row.
    failures: u32,
    not_before: Instant,
}

/// What a witness answers, if it is one.
enum Answer {
    Cosigned(Cosignature),
    /// It cosigned another size last than it was asked from.
    Has(u64),
}

impl OutsideWitness {
    /// Does not connect yet.
    ///
    /// # Errors
    /// [`Error::Witness`] if the address is none, or the system has no trusted certificates and it is `https`.
    pub fn new(config: &Witness) -> Result<Self> {
        let wrong = |problem: String| Error::Witness { name: config.key.name().to_owned(), problem };
        let endpoint = format!("{}/add-checkpoint", config.url.trim_end_matches('/'));
        let endpoint: Uri = endpoint.parse().map_err(|_| wrong(format!("{} is no address", config.url)))?;
        let tls = match endpoint.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong(format!("{} must begin with https:// or http://", config.url))),
        };
        if endpoint.query().is_some() {
            return Err(wrong(format!("{} has a query: give the address without", config.url)));
        }
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(tls).map_err(wrong)?)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(1)
            .http1_max_buf_size(limits::WITNESS_ANSWER_BYTES)
            .build(connector);
        Ok(Self {
            cosigner: config.key.clone(),
            endpoint,
            client,
            size: 0,
            failures: 0,
            not_before: Instant::now(),
        })
    }

    /// Its name and key.
    #[must_use]
    pub fn cosigner(&self) -> &Cosigner {
        &self.cosigner
    }

    /// Waits for as long as the witness is to be left alone after errors: up to
    /// [`WITNESS_RETRY_MOST_SECONDS`](limits::WITNESS_RETRY_MOST_SECONDS). Take the newest checkpoint after this.
    pub async fn rested(&self) {
        sleep_until(self.not_before).await;
    }

    /// Has it cosign a checkpoint, [when it is rested](Self::rested). `prove` gives the consistency proof to it from the
    /// tree of so many entries, which is never larger; it is called once or twice.
    ///
    /// # Errors
    /// [`Error::Witness`], and what comes from `prove`. The witness is then left alone for a while.
    pub async fn cosign(
        &mut self,
        checkpoint: &SignedCheckpoint,
        prove: impl FnMut(u64) -> Result<Vec<Hash>>,
    ) -> Result<Cosignature> {
        self.rested().await;
        let answer = self.converse(checkpoint, prove).await;
        match &answer {
            Ok(_) => (self.size, self.failures) = (checkpoint.head().size, 0),
            Err(_) => {
                let doubled = limits::WITNESS_RETRY_SECONDS.saturating_mul(1 << self.failures.min(16));
                let pause = doubled.min(limits::WITNESS_RETRY_MOST_SECONDS);
                self.failures = self.failures.saturating_add(1);
                self.not_before = Instant::now() + Duration::from_secs(pause);
                // It tells its size anew: what it said before may have been the error.
                self.size = 0;
            }
        }
        answer
    }

    async fn converse(
        &mut self,
        checkpoint: &SignedCheckpoint,
        mut prove: impl FnMut(u64) -> Result<Vec<Hash>>,
    ) -> Result<Cosignature> {
        let (size, origin) = (checkpoint.head().size, checkpoint.origin());
        for _ in 0..limits::WITNESS_QUESTIONS {
            if self.size > size {
                return Err(self.problem(format!(
                    "it has cosigned {} entries of {origin}, and we have {size}: if this repeats itself, somebody else \
                     writes a log under this name, or the store is an old copy",
                    self.size
                )));
            }
            match self.ask(checkpoint, &prove(self.size)?).await? {
                Answer::Cosigned(cosignature) => return Ok(cosignature),
                Answer::Has(has) if has == self.size && has == size => {
                    return Err(self.problem(format!(
                        "it has cosigned another tree of {size} entries of {origin}: somebody else writes a log under \
                         this name, or the store is an old copy; look at once"
                    )));
                }
                Answer::Has(has) => self.size = has,
            }
        }
        Err(self.problem("its size is another each time: does somebody else write this log?".to_owned()))
    }

    /// One question: the size to prove from, the proof, the checkpoint.
    async fn ask(&self, checkpoint: &SignedCheckpoint, proof: &[Hash]) -> Result<Answer> {
        let proof: String = proof.iter().map(|hash| format!("{}\n", hash.to_base64())).collect();
        let body = format!("old {}\n{proof}\n{}", self.size, checkpoint.to_note());
        let (status, answer) = timeout(Duration::from_secs(limits::WITNESS_SECONDS), self.post(body))
            .await
            .map_err(|_| self.problem(format!("it gave no answer within {} s", limits::WITNESS_SECONDS)))?
            .map_err(|problem| self.problem(problem))?;
        match status {
            StatusCode::OK => self.cosignature_in(checkpoint, &answer).map(Answer::Cosigned).ok_or_else(|| {
                self.problem("its answer has no cosignature by the configured key that verifies".to_owned())
            }),
            StatusCode::CONFLICT => size_in(&answer)
                .map(Answer::Has)
                .ok_or_else(|| self.problem("it has another size, and does not say which".to_owned())),
            StatusCode::NOT_FOUND => Err(self.problem(format!(
                "it does not know the log {}, or is not at {}: have it add the log, or check its address",
                checkpoint.origin(),
                self.endpoint
            ))),
            StatusCode::FORBIDDEN => Err(self.problem(format!(
                "it knows another key of the log {}: give it the right one",
                checkpoint.origin()
            ))),
            StatusCode::UNPROCESSABLE_ENTITY => Err(self.problem(format!(
                "our proof from {} entries does not hold for it: it has seen another history of the log {}; look at \
                 once",
                self.size,
                checkpoint.origin()
            ))),
            other => Err(self.problem(format!("it answered {other}"))),
        }
    }

    async fn post(&self, body: String) -> Result<(StatusCode, Bytes), String> {
        let mut request = Request::new(Full::from(body));
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, self.endpoint.clone());
        let answer = self.client.request(request).await.map_err(|error| described(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), limits::WITNESS_ANSWER_BYTES).collect().await;
        Ok((status, body.map_err(|error| format!("its answer cannot be read: {error}"))?.to_bytes()))
    }

    /// The first of the lines that is its cosignature, genuine; others are ignored, as the specification wants.
    fn cosignature_in(&self, checkpoint: &SignedCheckpoint, answer: &[u8]) -> Option<Cosignature> {
        let text = checkpoint.text();
        std::str::from_utf8(answer)
            .ok()?
            .lines()
            .filter_map(|line| Signature::from_bytes(line.as_bytes()).ok())
            .filter(|line| line.name() == self.cosigner.name() && line.id() == self.cosigner.key_id())
            .filter_map(|line| Cosignature::from_bytes(line.signature()))
            .find(|cosignature| self.cosigner.verifies(&text, cosignature))
    }

    fn problem(&self, problem: String) -> Error {
        Error::Witness { name: self.cosigner.name().to_owned(), problem }
    }
}

/// A size as the specification writes it: decimal, one spelling, a line.
fn size_in(answer: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(answer).ok()?.strip_suffix('\n')?;
    let size: u64 = line.parse().ok()?;
    (size.to_string() == line).then_some(size)
}

fn tls_config(with_roots: bool) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if with_roots {
        builder.with_native_roots().map_err(|error| {
            format!("this system trusts no certificates ({error}): install its package of authorities")
        })?
    } else {
        builder.with_root_certificates(RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

/// The whole chain: the client's own message is only that something failed.
fn described(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    format!("it cannot be reached: {}", causes.join(": "))
}

#[cfg(test)]
mod tests;
