//! The keys of a ledger: what hashes, seals, chains and derives.
//!
//! One master key of 32 bytes lives outside the ledger (PCI DSS 4.0.1, 3.5.1.1 wants keyed hashes with key management):
//! in a file of mode 0600 beside it, or wherever the configuration says (a systemd credential, a mounted secret). All
//! others are derived from it by HKDF-SHA-256, one for each purpose, so that no use can be turned into another:
//!
//! - keyed hashes (HMAC-SHA-256) of applications' idempotency keys, requests and order references: a copy of the ledger
//!   cannot be searched for a known e-mail address or card number;
//! - the event chain, so that only the holder of the key can extend or rewrite history;
//! - gateway idempotency keys and minted ids, functions of the payment (safety.md D6): a restart makes the same ones;
//! - sealing: AES-256-GCM under a key derived for each value from 16 random bytes, so that no number of values wears
//!   out a nonce. The value's place in the ledger is authenticated with it: a sealed value moved elsewhere does not open.
//!
//! The ledger keeps a check value, so that a wrong key is found at start and not at the first replay.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hkdf, hmac, rand};
use base64::Engine;
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use super::rows::Scope;

/// Length of the master key.
pub const MASTER_LEN: usize = 32;
const SALT_LEN: usize = 16;
const VERSION: u8 = 1;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What a keyed hash is of. Hashes of different purposes never compare equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Tenant, route, method and the application's idempotency key.
    IdempotencyKey,
    /// A canonical request.
    Fingerprint,
    /// Tenant and order reference.
    OrderReference,
    /// Anything that is a document's key but must not be readable.
    DocumentKey,
    /// A card, for counting attempts across gateways. Only its keyed hash is ever kept.
    Card,
}

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or created.
    #[error("key file {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("key file {path} has mode {mode:03o}; it must not be readable by group or others (chmod 600)", path = .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It does not hold a key.
    #[error("key file {path} must hold 32 bytes in base64", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
}

/// A sealed value does not open: it was damaged, moved, or sealed with another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value does not open")]
pub struct Unsealable;

/// The derived keys. Cheap to use, never shown.
pub struct Keys {
    hashes: [hmac::Key; 5],
    attempt: hmac::Key,
    chain: hmac::Key,
    row: hmac::Key,
    derive: hmac::Key,
    check: [u8; 32],
    seal: hkdf::Prk,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys([REDACTED])")
    }
}

impl Keys {
    /// Derives everything from the master key.
    pub fn new(master: &[u8; MASTER_LEN]) -> Self {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"api-sentinel ledger").extract(master);
        let key = |label: &str| hmac::Key::new(hmac::HMAC_SHA256, &*expand(&prk, label.as_bytes()));
        Self {
            hashes: [
                key("hash idempotency key"),
                key("hash fingerprint"),
                key("hash order reference"),
                key("hash document key"),
                key("hash card"),
            ],
            attempt: key("hash attempt"),
            chain: key("chain"),
            row: key("row"),
            derive: key("derive"),
            check: *expand(&prk, b"check"),
            seal: hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &*expand(&prk, b"seal")),
        }
    }

    /// Reads the master key from a file, or creates the file with a fresh one.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let mut master = Zeroizing::new([0_u8; MASTER_LEN]);
                rand::fill(&mut *master).map_err(|_| KeyError::NoRandom)?;
                let text = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(*master) + "\n");
                let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
                // The name must be as durable as what is sealed with the key.
                let directory = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty())
                    .unwrap_or(Path::new("."));
                written
                    .and_then(|()| std::fs::File::open(directory)?.sync_all())
                    .map_err(|source| KeyError::Io {
                        path: path.to_owned(),
                        source,
                    })?;
                Ok(Self::new(&master))
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Self::load(path),
            Err(source) => Err(KeyError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Reads the master key from a file that must exist and be readable by its owner only.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Zeroizing::new(String::new());
        let malformed = || KeyError::Malformed { path: path.to_owned() };
        file.take(256).read_to_string(&mut text).map_err(io)?;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text.trim())
            .map_err(|_| malformed())?;
        let bytes = Zeroizing::new(bytes);
        let mut master: [u8; MASTER_LEN] = bytes.as_slice().try_into().map_err(|_| malformed())?;
        let keys = Self::new(&master);
        master.zeroize();
        Ok(keys)
    }

    /// What a ledger keeps to know its key again. Reveals nothing of it.
    pub fn check_value(&self) -> [u8; 32] {
        self.check
    }

    /// A keyed hash of the parts; their borders count (`["a", "bc"]` is not `["ab", "c"]`).
    pub fn hash(&self, purpose: Purpose, parts: &[&[u8]]) -> [u8; 32] {
        let key = &self.hashes[purpose as usize];
        match purpose {
            // A card's number is copied nowhere.
            Purpose::Card => mac(key, parts),
            _ => mac_at_once(key, parts),
        }
    }

    /// Bytes that only the holder of the key can name, the same for the same parts: seeds of minted ids.
    pub fn derive(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac_at_once(&self.derive, parts)
    }

    /// The idempotency key for a gateway's attempt (safety.md D6): 36 characters of lower-case base32, a function of
    /// payment, gateway and leg.
    pub fn gateway_key(&self, payment: Uuid, gateway: &str, leg: &str) -> String {
        let hash = self.derive(&[b"gateway key", payment.as_bytes(), gateway.as_bytes(), leg.as_bytes()]);
        base32(&hash, 36)
    }

    /// What stands in the ledger for an attempt's idempotency key.
    pub(super) fn attempt_hash(&self, gateway: &str, leg: &str, key: &str) -> [u8; 32] {
        mac_at_once(&self.attempt, &[gateway.as_bytes(), leg.as_bytes(), key.as_bytes()])
    }

    /// What stands in the ledger for a scope.
    pub(super) fn scope_label(scope: &Scope) -> String {
        match scope {
            // A length makes the border certain, whatever a tenant is called.
            Scope::Application { tenant, dialect } => format!("app:{}:{tenant}:{dialect}", tenant.len()),
            Scope::Gateway { name } => format!("gateway:{name}"),
        }
    }

    /// The scope that a label stands for.
    pub(super) fn read_scope(label: &str) -> Option<Scope> {
        if let Some(name) = label.strip_prefix("gateway:") {
            return Some(Scope::Gateway { name: name.to_owned() });
        }
        let (length, rest) = label.strip_prefix("app:")?.split_once(':')?;
        let (tenant, dialect) = rest.split_at_checked(length.parse().ok()?)?;
        Some(Scope::Application {
            tenant: tenant.to_owned(),
            dialect: dialect.strip_prefix(':')?.to_owned(),
        })
    }

    /// The next link of a chain.
    pub(super) fn link(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac_at_once(&self.chain, parts)
    }

    /// The seal over a row's columns.
    pub(super) fn row_mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac_at_once(&self.row, parts)
    }

    /// Seals a value for one place in the ledger.
    pub fn seal(&self, place: &str, value: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let mut salt = [0_u8; SALT_LEN];
        rand::fill(&mut salt).map_err(|_| Unsealable)?;
        let key = self.sealing_key(&salt)?;
        let mut body = value.to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(place), &mut body)
            .map_err(|_| Unsealable)?;
        let mut sealed = Vec::with_capacity(1 + SALT_LEN + NONCE_LEN + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Opens a value sealed for this place.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let (head, body) = sealed.split_at_checked(1 + SALT_LEN + NONCE_LEN).ok_or(Unsealable)?;
        if head[0] != VERSION {
            return Err(Unsealable);
        }
        let (salt, nonce) = head[1..].split_at(SALT_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unsealable)?;
        let key = self.sealing_key(salt)?;
        let mut body = body.to_vec();
        let opened = key
            .open_in_place(nonce, Aad::from(place), &mut body)
            .map_err(|_| Unsealable)?
            .len();
        body.truncate(opened);
        Ok(body)
    }

    fn sealing_key(&self, salt: &[u8]) -> Result<RandomizedNonceKey, Unsealable> {
        RandomizedNonceKey::new(&AES_256_GCM, &*expand(&self.seal, salt)).map_err(|_| Unsealable)
    }
}

fn expand(prk: &hkdf::Prk, info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0_u8; 32]);
    let info = [info];
    prk.expand(&info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *key))
        .expect("HKDF refuses only outputs longer than 255 hashes, and this is one");
    key
}

fn mac(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.sign().as_ref());
    hash
}

/// The same of parts that may be copied: gathered first, because a short part costs its call more than its bytes.
fn mac_at_once(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut gathered = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        gathered.extend_from_slice(&(part.len() as u64).to_be_bytes());
        gathered.extend_from_slice(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(hmac::sign(key, &gathered).as_ref());
    hash
}

/// The first `length` characters of the bytes in lower-case base32 (RFC 4648 without padding).
fn base32(bytes: &[u8], length: usize) -> String {
    let bit = |at: usize| (bytes[at / 8] >> (7 - at % 8)) & 1;
    (0..length.min(bytes.len() * 8 / 5))
        .map(|at| (0..5).fold(0, |value, offset| value << 1 | bit(at * 5 + offset)))
        .map(|value: u8| ALPHABET[usize::from(value)] as char)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_values_open_only_in_their_place_and_undamaged() {
        let keys = Keys::new(&[7; 32]);
        let sealed = keys.seal("payment/1/response", b"{\"id\":\"pi_1\"}").expect("sealed");
        assert_eq!(
            keys.open("payment/1/response", &sealed).as_deref(),
            Ok(&b"{\"id\":\"pi_1\"}"[..])
        );
        assert_eq!(keys.open("payment/2/response", &sealed), Err(Unsealable));
        assert_eq!(Keys::new(&[8; 32]).open("payment/1/response", &sealed), Err(Unsealable));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(keys.open("payment/1/response", &damaged), Err(Unsealable), "byte {at}");
            assert_eq!(
                keys.open("payment/1/response", &sealed[..at]),
                Err(Unsealable),
                "cut at {at}"
            );
        }
        assert_ne!(
            sealed,
            keys.seal("payment/1/response", b"{\"id\":\"pi_1\"}").expect("sealed"),
            "never twice alike"
        );
        assert_eq!(
            keys.seal("p", b"").and_then(|sealed| keys.open("p", &sealed)),
            Ok(Vec::new())
        );
    }

    #[test]
    fn purposes_borders_and_masters_separate_hashes() {
        let keys = Keys::new(&[7; 32]);
        let hash = keys.hash(Purpose::Fingerprint, &[b"a", b"bc"]);
        assert_eq!(
            hash,
            Keys::new(&[7; 32]).hash(Purpose::Fingerprint, &[b"a", b"bc"]),
            "stable over restarts"
        );
        assert_ne!(hash, keys.hash(Purpose::Fingerprint, &[b"ab", b"c"]));
        let parts: [&[u8]; 3] = [b"a", b"", b"bc"];
        assert_eq!(mac(&keys.chain, &parts), mac_at_once(&keys.chain, &parts));
        assert_ne!(hash, keys.hash(Purpose::IdempotencyKey, &[b"a", b"bc"]));
        assert_ne!(hash, Keys::new(&[8; 32]).hash(Purpose::Fingerprint, &[b"a", b"bc"]));
        assert_ne!(keys.check_value(), Keys::new(&[8; 32]).check_value());
    }

    #[test]
    fn gateway_keys_are_functions_of_the_payment() {
        let keys = Keys::new(&[7; 32]);
        let payment = Uuid::from_u128(1);
        let key = keys.gateway_key(payment, "adyen", "auth");
        assert_eq!(key, keys.gateway_key(payment, "adyen", "auth"));
        assert_ne!(key, keys.gateway_key(payment, "adyen", "capture"));
        assert!(
            key.len() == 36 && key.bytes().all(|byte| ALPHABET.contains(&byte)),
            "{key}"
        );
        assert_eq!(base32(b"foobar", 9), "mzxw6ytbo", "RFC 4648 section 10");
    }

    #[test]
    fn a_key_file_is_made_once_private_and_read_again() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("ledger.key");
        let keys = Keys::load_or_create(&path).expect("made");
        let mode = std::fs::metadata(&path).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            Keys::load_or_create(&path).expect("read").check_value(),
            keys.check_value()
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(Keys::load(&path), Err(KeyError::Exposed { mode: 0o640, .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        std::fs::write(&path, "c2hvcnQ=").expect("write");
        assert!(matches!(Keys::load(&path), Err(KeyError::Malformed { .. })));
        assert!(matches!(
            Keys::load(&directory.path().join("none")),
            Err(KeyError::Io { .. })
        ));
    }

    #[test]
    fn scopes_have_distinct_labels() {
        let scope = |tenant: &str, dialect: &str| Scope::Application {
            tenant: tenant.to_owned(),
            dialect: dialect.to_owned(),
        };
        assert_ne!(
            Keys::scope_label(&scope("a:b", "c")),
            Keys::scope_label(&scope("a", "b:c"))
        );
        for scope in [
            scope("a:b", "c"),
            scope("", "stripe"),
            Scope::Gateway {
                name: "adyen-eu".to_owned(),
            },
        ] {
            assert_eq!(Keys::read_scope(&Keys::scope_label(&scope)), Some(scope));
        }
        assert_eq!(Keys::read_scope("app:9:a:b"), None);
    }
}
