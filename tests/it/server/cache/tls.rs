//! A model server that is reached over TLS, and who is taken for it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use super::fake::Fake;
use super::{Front, chat, server, settings};

const ONE: &str = "what is the capital city of the country France";

/// Who vouches for servers of these tests.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A file in `folder` that names it, after another who vouches for none of them.
    fn file(&self, folder: &Path) -> PathBuf {
        let path = folder.join("authorities.pem");
        std::fs::write(&path, format!("{}{}", Self::new().pem, self.pem)).unwrap();
        path
    }

    fn config(&self, name: &str) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let vouched = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        builder.with_no_client_auth().with_single_cert(vec![vouched.der().clone()], key).unwrap()
    }

    /// The URL, on this machine, of what shows a certificate of this name and passes on what it is sent to `behind`.
    fn over_tls(&self, name: &str, behind: &str) -> String {
        let acceptor = TlsAcceptor::from(Arc::new(self.config(name)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let behind = behind.strip_prefix("http://").unwrap().to_owned();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || runtime.block_on(pass_on(listener, acceptor, behind)));
        format!("https://localhost:{port}")
    }
}

async fn pass_on(listener: TcpListener, acceptor: TlsAcceptor, behind: String) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, behind) = (acceptor.clone(), behind.clone());
        tokio::spawn(async move {
            // Whoever does not believe it leaves here.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut behind = tokio::net::TcpStream::connect(behind).await.unwrap();
            // How a connection ends is for both ends to say.
            let _ = copy_bidirectional(&mut stream, &mut behind).await;
        });
    }
}

/// Before a model that shows a certificate of this name, with its authority among those that are believed, or not.
fn front(name: &str, is_believed: bool) -> Front {
    Front::with("", |settings, data| {
        let authority = Authority::new();
        settings.upstream = Some(authority.over_tls(name, settings.upstream.as_ref().unwrap()));
        settings.authorities = is_believed.then(|| authority.file(data));
    })
}

#[test]
fn a_model_behind_tls_is_asked_and_its_answers_are_remembered() {
    let front = front("localhost", true);
    let first = front.ask(&[], &chat("m", ONE));
    assert_eq!((first.status, first.outcome()), (200, "MISS"), "{first:?}");
    let again = front.ask(&[], &chat("m", ONE));
    assert_eq!((again.outcome(), again.said()), ("HIT", first.said()));
    let mut body = chat("m", "tell me of the mountains of France");
    body["stream"] = true.into();
    let streamed = [front.ask(&[], &body), front.ask(&[], &body)];
    assert_eq!(streamed.each_ref().map(|got| got.outcome()), ["MISS", "HIT"]);
    assert_eq!(streamed[0].said(), streamed[1].said());
    let listed = front.send("GET", "/v1/models", &[], "");
    assert_eq!(listed.body["path"], "/v1/models", "{}", listed.text);
    let seen = front.fake.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen[0].header("host").unwrap().starts_with("localhost:"), "{:?}", seen[0]);
}

#[test]
fn whoever_is_not_vouched_for_is_told_nothing() {
    let unknown = front("localhost", false);
    let another = front("models.test", true);
    let plain = Front::with("", |settings, _| {
        let url = settings.upstream.as_ref().unwrap();
        settings.upstream = Some(url.replace("http://127.0.0.1", "https://localhost"));
    });
    for (front, said) in [
        (unknown, ["upstream_certificate", "UnknownIssuer"]),
        (another, ["upstream_certificate", "not valid for name"]),
        (plain, ["upstream_unreachable", "expected TLS"]),
    ] {
        for _ in 0..2 {
            let got = front.ask(&[], &chat("m", ONE));
            assert_eq!((got.status, got.outcome()), (502, "MISS"), "{got:?}");
            assert!(said.iter().all(|said| got.text.contains(said)), "{said:?}: {}", got.text);
        }
        assert!(front.fake.seen().iter().all(|seen| !seen.line.contains("/v1/")));
        let stats = front.send("GET", "/v1/cache/proxy/stats", &[], "");
        assert_eq!(stats.body["result"]["entries"], 0, "{}", stats.text);
    }
}

#[test]
fn a_judge_behind_tls_is_asked_too() {
    let front = Front::with("", |settings, data| {
        let authority = Authority::new();
        let url = authority.over_tls("localhost", settings.upstream.as_ref().unwrap());
        let policy = format!(
            "[default]\nthreshold = 0.99\nmargin = 0.5\nguard = false\njudge = \"{url}/judge\"\n"
        );
        let path = data.join("policy.toml");
        std::fs::write(&path, policy).unwrap();
        (settings.policy, settings.authorities) = (Some(path), Some(authority.file(data)));
    });
    front.ask(&[], &chat("m", ONE));
    front.ask(&[], &chat("m", &format!("{ONE} please")));
    front.wait_judged("same", 1.0);
    assert!(front.fake.seen().iter().any(|seen| seen.line.contains("/judge")));
}

#[test]
fn a_file_without_authorities_is_refused_when_the_server_starts() {
    let (data, fake) = (tempfile::tempdir().unwrap(), Fake::start());
    let path = data.path().join("authorities.pem");
    let broken = Authority::new().pem.replace('M', "?");
    for text in ["", "no certificates", &broken] {
        std::fs::write(&path, text).unwrap();
        let mut own = settings(&fake);
        own.authorities = Some(path.clone());
        let plain = server(data.path(), own.clone());
        assert!(plain.is_ok(), "{text:?}: nobody needs it");
        drop(plain);
        own.upstream = Some("https://localhost:1".into());
        let error = server(data.path(), own).err().unwrap();
        assert_eq!(error.code(), "authorities", "{text:?}: {error}");
        assert!(error.to_string().contains("authorities.pem"), "{error}");
    }
}

/// `nearkin serve` with its model and its embedder behind TLS.
fn program(url: &str, data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearkin"));
    command.args(["serve", "--bind", "127.0.0.1:0", "--upstream", url, "--data"]).arg(data);
    command.arg("--embed").arg(format!("{url}/v1/embeddings#m"));
    command.env_remove("SSL_CERT_FILE").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is what the test waits for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_believes_the_authorities_that_the_environment_names() {
    let (folder, fake, authority) = (tempfile::tempdir().unwrap(), Fake::start(), Authority::new());
    let url = authority.over_tls("localhost", &fake.url());
    let data = folder.path().join("data");
    let refused = crate::support::wait(program(&url, &data).spawn().unwrap());
    assert_eq!(refused.code, 6, "{refused:?}");
    let said = ["embed_http", "UnknownIssuer", "attempt 1"];
    assert!(said.iter().all(|said| refused.stderr.contains(said)), "{refused:?}");
    assert_eq!(fake.n_seen(), 0);
    let mut command = program(&url, &data);
    let child = command.env("SSL_CERT_FILE", authority.file(folder.path())).spawn().unwrap();
    let mut running = Running(child);
    let child = &mut running.0;
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let own = line.trim().rsplit(' ').next().unwrap();
    let mut answer = ureq::post(format!("{own}/v1/chat/completions"))
        .header("content-type", "application/json")
        .send(json!({"model": "m", "messages": [{"role": "user", "content": ONE}]}).to_string())
        .unwrap();
    assert!(answer.body_mut().read_to_string().unwrap().contains(ONE));
    crate::support::signal(child, "TERM");
    assert!(child.wait().unwrap().success());
    let lines: Vec<String> = fake.seen().into_iter().map(|seen| seen.line).collect();
    assert!(lines[0].contains("/v1/embeddings"), "{lines:?}");
    assert!(lines.last().unwrap().contains("/v1/chat/completions"), "{lines:?}");
}
