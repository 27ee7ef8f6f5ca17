//! Sealed bundles: through the gate or refused, whatever is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bms_bundle::seal::{ENVELOPE, Key, Keyring, PassphraseCost, Rekeyed, SEALED, SealOptions, To};
use bms_bundle::seal::{Lease, LeasedKey, lease_dir, rekey_dir, seal_to, unseal_to};
use bms_bundle::{Bundle, Draft, MANIFEST, Policy, SIGNATURE, SigningKey, sign_dir};
use bms_wire::Code;
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::samples::{self, draft, manifest, onnx};

const CHEAP: PassphraseCost = PassphraseCost { memory_kib: 64, passes: 1 };

/// A sealed bundle and those around it.
struct Site {
    dir: TempDir,
    publisher: SigningKey,
    reader: Arc<SigningKey>,
}

impl Site {
    fn new(draft: Draft) -> Site {
        let site = Site {
            dir: tempfile::tempdir().unwrap(),
            publisher: SigningKey::generate(),
            reader: Arc::new(SigningKey::generate()),
        };
        draft.write_signed(&site.plain(), &site.publisher).unwrap();
        let to = [To::Key(site.reader.public().clone()), passphrase("correct horse")];
        let verified = site.policy(None).verify(Bundle::open(&site.plain()).unwrap()).unwrap();
        let options = SealOptions { to: &to, signer: &site.publisher, replace: false, now_ms: 1 };
        seal_to(&verified, &site.sealed(), &options).unwrap();
        site
    }

    fn plain(&self) -> PathBuf {
        self.dir.path().join("plain")
    }

    fn sealed(&self) -> PathBuf {
        self.dir.path().join("sealed")
    }

    fn policy(&self, key: Option<Key>) -> Policy {
        let mut keys = Keyring::default();
        key.into_iter().for_each(|key| keys.add(key));
        Policy { keys, ..Policy::trusting(self.publisher.public(), "me") }
    }

    fn opening(&self) -> Policy {
        self.policy(Some(Key::Private(self.reader.clone())))
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let bundle = Bundle::open(&self.sealed()).unwrap();
        bundle.files().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect()
    }
}

fn passphrase(text: &str) -> To {
    To::Passphrase(Zeroizing::new(text.as_bytes().to_vec()), CHEAP)
}

fn knows(text: &str) -> Key {
    Key::Passphrase(Arc::new(Zeroizing::new(text.as_bytes().to_vec())))
}

fn code(policy: &Policy, dir: &Path) -> Option<Code> {
    policy.verify(Bundle::open(dir).unwrap()).err().map(|rejected| rejected.code)
}

#[test]
fn what_was_sealed_comes_out_whole_and_nothing_of_it_shows() {
    let mut large = draft();
    let weights: Vec<u8> = (0..9_000_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
    // Text that would be seen; larger than a piece, so that several threads decrypt it.
    let weights = [b"secret-tensor-name".as_slice(), &weights].concat();
    large.add("weights.txt", hex_text(&weights)).unwrap();
    let site = Site::new(large);
    let sealed = Bundle::open(&site.sealed()).unwrap();
    let outside = sealed.manifest_unverified().unwrap();
    assert!(outside.inputs.is_empty() && outside.sealed.is_some());
    for (path, bytes) in sealed.files() {
        for secret in ["model.onnx", "labels.txt", "curves.json", "secret-tensor-name", "zero\none"] {
            let shows = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!shows, "{secret} shows in {path}");
        }
    }

    let plain = site.policy(None).verify(Bundle::open(&site.plain()).unwrap()).unwrap();
    let opened = site.opening().verify(sealed.clone()).unwrap();
    assert_eq!(opened.manifest(), plain.manifest());
    assert!(opened.files().eq(plain.files()), "every file, the signature too");
    assert_eq!(opened.digest(), sealed.digest(), "the version is the sealed bundle");
    assert_eq!(opened.seal().unwrap().digest, plain.digest());
    assert_eq!(opened.signer().unwrap().publisher, "me");
    opened.recheck().unwrap();
    let out = site.dir.path().join("out");
    unseal_to(&opened, &out).unwrap();
    assert_eq!(code(&site.policy(None), &out), None);
}

/// Text of printable characters, so that the scanner knows what it is.
fn hex_text(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [b"0123456789abcdef"[usize::from(byte >> 4)], b'a' + (byte & 15)]).collect()
}

#[test]
fn only_its_keys_open_it() {
    let site = Site::new(draft());
    let sealed = site.sealed();
    assert_eq!(code(&site.opening(), &sealed), None);
    assert_eq!(code(&site.policy(Some(knows("correct horse"))), &sealed), None);
    assert_eq!(code(&site.policy(Some(knows("battery staple"))), &sealed), Some(Code::KeyMissing));
    let other = Key::Private(Arc::new(SigningKey::generate()));
    assert_eq!(code(&site.policy(Some(other)), &sealed), Some(Code::KeyMissing));
    assert_eq!(code(&site.policy(None), &sealed), Some(Code::KeyMissing));
    let data = site.opening().data_key(&Bundle::open(&sealed).unwrap()).unwrap().unwrap();
    assert_eq!(code(&site.policy(Some(Key::Data(data))), &sealed), None);
    assert!(site.opening().data_key(&Bundle::open(&site.plain()).unwrap()).unwrap().is_none());
}

#[test]
fn a_flipped_byte_anywhere_is_refused_with_and_without_a_key() {
    let site = Site::new(draft());
    let (opening, closed) = (site.opening(), site.policy(None));
    let files = site.files();
    for (name, expected) in [
        (MANIFEST, &[Code::Tampered][..]),
        (SEALED, &[Code::Tampered]),
        (SIGNATURE, &[Code::SignatureInvalid]),
        (ENVELOPE, &[Code::SignatureInvalid, Code::SignerUntrusted, Code::InvalidBundle]),
    ] {
        let length = files.iter().find(|(path, _)| path == name).unwrap().1.len();
        // The beginning and every eleventh byte of what is long.
        let places = (0..length).filter(|at| name != SEALED || *at < 64 || at % 11 == 0);
        for at in places {
            let mut changed = files.clone();
            changed.iter_mut().find(|(path, _)| path == name).unwrap().1[at] ^= 1 << (at % 8);
            let bundle = Bundle::from_files(changed).unwrap();
            let refused = opening.verify(bundle.clone()).expect_err("refused").code;
            assert!(expected.contains(&refused), "{name} byte {at}: {refused:?}");
            // A registry without a key finds it too; nothing is admitted unread that was changed.
            let refused = closed.admit(&bundle).expect_err("refused").code;
            assert!(expected.contains(&refused), "{name} byte {at}, without a key: {refused:?}");
        }
    }
}

#[test]
fn the_cipher_finds_what_a_publisher_signed_by_mistake() {
    let site = Site::new(draft());
    let sealed = site.sealed().join(SEALED);
    let good = fs::read(&sealed).unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut changed = good.clone();
        changed[at] ^= 1 << (at % 8);
        let refused = resigned(&site, &changed);
        assert!(matches!(refused, Some(Code::Tampered | Code::InvalidBundle)), "byte {at}: {refused:?}");
    }
    for cut in [0, 1, 39, 40, 4000, good.len() - 1] {
        let refused = resigned(&site, &good[..cut]);
        assert!(matches!(refused, Some(Code::Tampered | Code::InvalidBundle)), "{cut} bytes: {refused:?}");
    }
    assert_eq!(resigned(&site, &good), None);
}

/// The verdict over a sealed bundle with this data, digests and signature made anew.
fn resigned(site: &Site, data: &[u8]) -> Option<Code> {
    let dir = site.dir.path().join("again");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).unwrap();
    let mut outside = Bundle::open(&site.sealed()).unwrap().manifest_unverified().unwrap();
    outside.files = vec![bms_bundle::FileEntry::of(SEALED, data)];
    fs::write(dir.join(MANIFEST), outside.to_bytes().unwrap()).unwrap();
    fs::write(dir.join(SEALED), data).unwrap();
    fs::copy(site.sealed().join(ENVELOPE), dir.join(ENVELOPE)).unwrap();
    sign_dir(&dir, &site.publisher).unwrap();
    code(&site.opening(), &dir)
}

#[test]
fn parts_of_two_sealed_bundles_do_not_mix() {
    let site = Site::new(draft());
    let other = site.dir.path().join("other");
    let verified = site.policy(None).verify(Bundle::open(&site.plain()).unwrap()).unwrap();
    let to = [To::Key(site.reader.public().clone())];
    let options = SealOptions { to: &to, signer: &site.publisher, replace: false, now_ms: 1 };
    seal_to(&verified, &other, &options).unwrap();
    for name in [SEALED, ENVELOPE, MANIFEST, SIGNATURE] {
        let mixed = site.dir.path().join(format!("mixed-{name}"));
        fs::create_dir(&mixed).unwrap();
        for file in [SEALED, ENVELOPE, MANIFEST, SIGNATURE] {
            let from = if file == name { &other } else { &site.sealed() };
            fs::copy(from.join(file), mixed.join(file)).unwrap();
        }
        assert_eq!(code(&site.opening(), &mixed), Some(Code::Tampered), "{name} of another");
    }
    let stray = site.sealed().join("stray.txt");
    fs::write(&stray, "x").unwrap();
    assert_eq!(code(&site.opening(), &site.sealed()), Some(Code::Tampered));
    fs::remove_file(stray).unwrap();
    fs::remove_file(site.sealed().join(ENVELOPE)).unwrap();
    assert_eq!(code(&site.opening(), &site.sealed()), Some(Code::Tampered));
}

#[test]
fn what_is_inside_is_scanned_again() {
    // A publisher whose own scan said nothing, as with an older scanner: sealed under a policy that denies nothing.
    let key = SigningKey::generate();
    let dir = tempfile::tempdir().unwrap();
    let (plain, sealed) = (dir.path().join("plain"), dir.path().join("sealed"));
    let mut draft = Draft::new(manifest());
    draft.add("model.onnx", onnx()).unwrap();
    draft.add("state.json", br#"{"auto_map": {"AutoModel": "evil.Model"}}"#.to_vec()).unwrap();
    draft.write_signed(&plain, &key).unwrap();
    let lax = Policy { deny: bms_bundle::Severity::Critical, ..Policy::trusting(key.public(), "me") };
    let Ok(verified) = lax.verify(Bundle::open(&plain).unwrap()) else {
        return check_hostile_is_refused_at_once(&plain, &lax);
    };
    let to = [passphrase("x")];
    let options = SealOptions { to: &to, signer: &key, replace: false, now_ms: 1 };
    seal_to(&verified, &sealed, &options).unwrap();
    let mut strict = Policy::trusting(key.public(), "me");
    let unread = strict.admit(&Bundle::open(&sealed).unwrap()).expect_err("its scan was too lax");
    assert_eq!(unread.code, Code::MaliciousContent);
    strict.keys.add(knows("x"));
    // Whether the file is refused is the scanner's business; both ways of asking must agree.
    assert_eq!(code(&strict, &sealed), code(&Policy::trusting(key.public(), "me"), &plain));
}

fn check_hostile_is_refused_at_once(plain: &Path, lax: &Policy) {
    assert!(code(lax, plain).is_some());
    assert!(!samples::rules(br#"{"auto_map": {"AutoModel": "evil.Model"}}"#).is_empty());
}

#[test]
fn rekeying_changes_the_envelope_alone() {
    let site = Site::new(draft());
    let before = site.files();
    let newcomer = Arc::new(SigningKey::generate());
    let sealed = Bundle::open(&site.sealed()).unwrap();
    let digest = sealed.digest();
    let add = [To::Key(newcomer.public().clone())];
    let gone = [format!("key:{}", &site.reader.key_id()[..16])];
    let change = Rekeyed { add: &add, remove: &gone, rewrap: &[] };
    let envelope = rekey_dir(&site.sealed(), &site.opening(), &change, &site.publisher).unwrap();
    assert_eq!((envelope.revision(), envelope.recipients().len()), (2, 2));
    for ((path, old), (_, new)) in before.iter().zip(site.files()) {
        assert_eq!(*old == new, path != ENVELOPE, "{path}");
    }
    assert_eq!(Bundle::open(&site.sealed()).unwrap().digest(), digest);
    assert_eq!(code(&site.opening(), &site.sealed()), Some(Code::KeyMissing));
    assert_eq!(code(&site.policy(Some(Key::Private(newcomer.clone()))), &site.sealed()), None);
    assert_eq!(code(&site.policy(Some(knows("correct horse"))), &site.sealed()), None);
    // Nothing is left beside it.
    let beside = fs::read_dir(site.dir.path()).unwrap().count();
    assert_eq!(beside, 2);

    let policy = site.policy(Some(Key::Private(newcomer)));
    let again = rekey_dir(&site.sealed(), &policy, &change, &site.publisher);
    assert_eq!(again.unwrap_err().code(), Code::NotFound, "that one is gone already");
    let stranger = SigningKey::generate();
    rekey_dir(&site.sealed(), &policy, &Rekeyed { add: &add, ..Rekeyed::default() }, &stranger).unwrap();
    assert_eq!(code(&policy, &site.sealed()), Some(Code::SignerUntrusted), "an envelope of a stranger");
}

#[test]
fn a_leased_key_opens_the_bundle_it_is_for() {
    let site = Site::new(draft());
    let node = Arc::new(SigningKey::generate());
    let later = 1000 * 24 * 3600 * 1000 + bms_now();
    let times = (None, later);
    let lease = lease_dir(&site.sealed(), &site.opening(), ("edge-1", node.public()), times, &site.publisher);
    let lease = Lease::parse(&lease.unwrap()).unwrap();
    lease.verify(site.publisher.public()).unwrap();
    let clock = site.dir.path().join("clock");
    let leased =
        |key: Arc<SigningKey>| Key::Leased(Arc::new(LeasedKey::new(lease.clone(), key, &clock).unwrap()));
    assert_eq!(code(&site.policy(Some(leased(node.clone()))), &site.sealed()), None);
    fs::remove_file(&clock).unwrap();
    let stolen = site.policy(Some(leased(Arc::new(SigningKey::generate()))));
    assert_eq!(code(&stolen, &site.sealed()), Some(Code::KeyMissing));

    let times = (None, bms_now() + 200);
    let short = lease_dir(&site.sealed(), &site.opening(), ("edge-1", node.public()), times, &site.publisher);
    let short = Lease::parse(&short.unwrap()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(210));
    fs::remove_file(&clock).unwrap();
    let short = Key::Leased(Arc::new(LeasedKey::new(short, node, &clock).unwrap()));
    assert_eq!(code(&site.policy(Some(short)), &site.sealed()), Some(Code::LeaseExpired));
}

fn bms_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}

#[test]
fn a_registry_without_a_key_admits_what_it_cannot_read() {
    let site = Site::new(draft());
    let bundle = Bundle::open(&site.sealed()).unwrap();
    let unread = site.policy(None).admit(&bundle).unwrap();
    assert!(!unread.opened && unread.signer.is_some() && unread.digest == bundle.digest());
    let read = site.opening().admit(&bundle).unwrap();
    assert!(read.opened && read.manifest == unread.manifest && read.size_bytes == bundle.size_bytes());
    let stranger = Policy::trusting(SigningKey::generate().public(), "other");
    assert_eq!(stranger.admit(&bundle).unwrap_err().code, Code::SignerUntrusted);
}
