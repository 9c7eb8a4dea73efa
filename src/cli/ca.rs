//! `sentinel ca`: a local certificate authority and a certificate for localhost, for SDKs that refuse plain HTTP.
//!
//! Running it again changes nothing while the certificate is good: it renews a certificate near its end or with other
//! names, with the same authority, so that trust has to be set up once. Keys are readable by their owner only, written to
//! a temporary file and renamed, so that no reader sees half a key. The authority is limited to the names it was made
//! for (RFC 5280 4.2.1.10): a stolen key cannot vouch for any other host.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// How long the authority is good for.
const AUTHORITY: Duration = Duration::from_secs(3650 * 86_400);
/// How long a certificate is good for: below the 398 days that some clients accept.
const LEAF: Duration = Duration::from_secs(365 * 86_400);
/// A certificate with less than this left is renewed.
const RENEW: Duration = Duration::from_secs(30 * 86_400);
/// Clocks of containers and hosts differ.
const SKEW: Duration = Duration::from_secs(3600);

/// Arguments of `sentinel ca`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the files are: ca.pem, ca.key, localhost.pem, localhost.key.
    #[arg(long, default_value = "tls")]
    pub dir: PathBuf,
    /// Names and addresses the certificate is for.
    #[arg(long = "name", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub names: Vec<String>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Authority and certificate are new.
    Created,
    /// The certificate was renewed; trust in the authority stays.
    Renewed,
    /// Everything was good already.
    Kept,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// One half of the authority is missing or unusable. Making a new one would silently break the trust set up before.
    #[error("{path} is missing or cannot be used; restore it, or remove the directory to start anew", path = .path.display())]
    Authority {
        /// The file.
        path: PathBuf,
    },
    /// A name cannot be in a certificate, or is outside the authority's names.
    #[error("'{0}' cannot be certified by this authority; remove the directory to make one for other names")]
    Name(String),
    /// The certificate could not be made.
    #[error("cannot make the certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// Makes what is missing, renews what is near its end, and says what was done.
///
/// # Errors
/// When files cannot be written, or the authority in the directory cannot be used.
pub fn run(args: &Args) -> Result<(Done, String), CaError> {
    let done = ensure(args, SystemTime::now())?;
    Ok((done, instructions(&args.dir, done)))
}

struct Files {
    ca: PathBuf,
    ca_key: PathBuf,
    leaf: PathBuf,
    leaf_key: PathBuf,
}

impl Files {
    fn of(dir: &Path) -> Self {
        Self {
            ca: dir.join("ca.pem"),
            ca_key: dir.join("ca.key"),
            leaf: dir.join("localhost.pem"),
            leaf_key: dir.join("localhost.key"),
        }
    }
}

fn ensure(args: &Args, now: SystemTime) -> Result<Done, CaError> {
    let files = Files::of(&args.dir);
    std::fs::create_dir_all(&args.dir).map_err(|source| CaError::File {
        path: args.dir.clone(),
        source,
    })?;
    let fresh = !files.ca.exists() && !files.ca_key.exists();
    if fresh {
        create_authority(&files, &args.names, now)?;
    }
    let text = |path: &Path| std::fs::read_to_string(path).map_err(|_| CaError::Authority { path: path.to_owned() });
    let authority = text(&files.ca)?;
    let key = KeyPair::from_pem(&text(&files.ca_key)?).map_err(|_| CaError::Authority {
        path: files.ca_key.clone(),
    })?;
    let issuer =
        Issuer::from_ca_cert_pem(&authority, key).map_err(|_| CaError::Authority { path: files.ca.clone() })?;
    if !fresh && is_good(&files, args, now) {
        return Ok(Done::Kept);
    }
    let mut params = params(&args.names, "Sentinel on this machine", now, LEAF)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let leaf_key = KeyPair::generate()?;
    let leaf = params.signed_by(&leaf_key, &issuer)?;
    verify(leaf.der(), &authority, args, now)?;
    // The key first: a server that reloads between the two keeps its old pair, because these do not fit together.
    write(&files.leaf_key, &leaf_key.serialize_pem(), 0o600)?;
    write(&files.leaf, &leaf.pem(), 0o644)?;
    Ok(if fresh { Done::Created } else { Done::Renewed })
}

fn create_authority(files: &Files, names: &[String], now: SystemTime) -> Result<(), CaError> {
    let mut params = params(&[], "Sentinel local authority", now, AUTHORITY)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let permitted = names.iter().map(|name| match name.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(address)) => {
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(address.octets(), 32))
        }
        Ok(std::net::IpAddr::V6(address)) => {
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(address.octets(), 128))
        }
        Err(_) => GeneralSubtree::DnsName(name.clone()),
    });
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted.collect(),
        excluded_subtrees: Vec::new(),
    });
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    write(&files.ca_key, &key.serialize_pem(), 0o600)?;
    write(&files.ca, &certificate.pem(), 0o644)
}

fn params(names: &[String], common: &str, now: SystemTime, good: Duration) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::new(names).map_err(|_| CaError::Name(names.join(", ")))?;
    params.distinguished_name.push(DnType::CommonName, common);
    params.not_before = (now - SKEW).into();
    params.not_after = (now + good).into();
    Ok(params)
}

/// Whether the certificate is there, fits the authority, names everything wanted, and lasts long enough.
fn is_good(files: &Files, args: &Args, now: SystemTime) -> bool {
    let (Ok(leaf), Ok(authority)) = (
        CertificateDer::from_pem_file(&files.leaf),
        std::fs::read_to_string(&files.ca),
    ) else {
        return false;
    };
    let private = std::fs::metadata(&files.leaf_key).is_ok_and(|meta| meta.permissions().mode() & 0o077 == 0);
    private
        && crate::listen::tls::ServerTls::load(&files.leaf, &files.leaf_key).is_ok()
        && verify(&leaf, &authority, args, now + RENEW).is_ok()
}

/// Checks as a client would: the chain, the time, and every name.
fn verify(leaf: &CertificateDer<'_>, authority: &str, args: &Args, at: SystemTime) -> Result<(), CaError> {
    use rustls::client::danger::ServerCertVerifier;
    let refused = || CaError::Name(args.names.join(", "));
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(root.map_err(|_| refused())?).map_err(|_| refused())?;
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(std::sync::Arc::new(roots), provider)
        .build()
        .map_err(|_| refused())?;
    let at = at.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| refused())?;
    for name in &args.names {
        let server = rustls::pki_types::ServerName::try_from(name.as_str()).map_err(|_| CaError::Name(name.clone()))?;
        verifier
            .verify_server_cert(
                leaf,
                &[],
                &server,
                &[],
                rustls::pki_types::UnixTime::since_unix_epoch(at),
            )
            .map_err(|_| CaError::Name(name.clone()))?;
    }
    Ok(())
}

/// Writes through a temporary file in the same directory.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let attempt = || {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    attempt().map_err(|source| {
        let _ = std::fs::remove_file(&new);
        CaError::File {
            path: path.to_owned(),
            source,
        }
    })
}

/// How to make clients trust the authority, by system and by language.
fn instructions(dir: &Path, done: Done) -> String {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let ca = dir.join("ca.pem");
    let ca = ca.display();
    let what = match done {
        Done::Created => "Made a local authority and a certificate",
        Done::Renewed => "Renewed the certificate; the authority and the trust in it stay",
        Done::Kept => "The certificate is good; nothing was changed",
    };
    format!(
        "{what}: {dir}
Certificate and key for a TLS listener:
  {leaf}
  {key}

Trust for one application only (preferred):
  node                 NODE_EXTRA_CA_CERTS={ca}
  python (requests)    REQUESTS_CA_BUNDLE={ca}      paypal, adyen
  python (httpx)       SSL_CERT_FILE={ca}           square
  python (stripe)      stripe.ca_bundle_path = \"{ca}\"
  python (razorpay)    client.cert_path = \"{ca}\"
  python (braintree)   Environment(..., ssl_certificate=\"{ca}\")
  ruby, php, go        SSL_CERT_FILE={ca}
  java                 keytool -importcert -noprompt -alias sentinel -file {ca} -keystore sentinel.p12 -storepass changeit
                       then -Djavax.net.ssl.trustStore=sentinel.p12 -Djavax.net.ssl.trustStorePassword=changeit
  dotnet (Linux)       SSL_CERT_FILE={ca}

REQUESTS_CA_BUNDLE, SSL_CERT_FILE and a Java trust store replace the public roots: set them only for an application whose
other calls go through Sentinel too, or append the public roots to a copy of the file.

Trust for the whole machine:
  Debian, Ubuntu       sudo cp {ca} /usr/local/share/ca-certificates/sentinel.crt && sudo update-ca-certificates
  Fedora, RHEL         sudo cp {ca} /etc/pki/ca-trust/source/anchors/sentinel.pem && sudo update-ca-trust
  Alpine               cp {ca} /usr/local/share/ca-certificates/sentinel.crt && update-ca-certificates
  macOS                sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {ca}
  Windows              certutil -addstore -f Root {ca}
",
        dir = dir.display(),
        leaf = dir.join("localhost.pem").display(),
        key = dir.join("localhost.key").display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: &Path) -> Args {
        Args {
            dir: dir.to_owned(),
            names: ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec(),
        }
    }

    fn read(dir: &Path, name: &str) -> Vec<u8> {
        std::fs::read(dir.join(name)).unwrap()
    }

    #[test]
    fn running_again_changes_nothing_and_a_certificate_near_its_end_is_renewed_under_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let (args, now) = (args(dir.path()), SystemTime::now());
        assert_eq!(ensure(&args, now).unwrap(), Done::Created);
        let (ca, leaf) = (read(dir.path(), "ca.pem"), read(dir.path(), "localhost.pem"));
        assert_eq!(
            ensure(&args, now + LEAF - RENEW - Duration::from_secs(60)).unwrap(),
            Done::Kept
        );
        assert_eq!(read(dir.path(), "localhost.pem"), leaf);
        assert_eq!(
            ensure(&args, now + LEAF - RENEW + Duration::from_secs(60)).unwrap(),
            Done::Renewed
        );
        assert_ne!(read(dir.path(), "localhost.pem"), leaf);
        assert_eq!(read(dir.path(), "ca.pem"), ca);
    }

    #[test]
    fn keys_are_readable_by_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        ensure(&args(dir.path()), SystemTime::now()).unwrap();
        for key in ["ca.key", "localhost.key"] {
            assert_eq!(
                std::fs::metadata(dir.path().join(key)).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        // No temporary file stays.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn an_authority_with_half_its_files_is_not_replaced_and_never_signs_other_names() {
        let dir = tempfile::tempdir().unwrap();
        let mut args = args(dir.path());
        ensure(&args, SystemTime::now()).unwrap();
        args.names.push("api.example.com".to_owned());
        assert!(
            matches!(ensure(&args, SystemTime::now()), Err(CaError::Name(name)) if name == "localhost" || name == "api.example.com")
        );
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        args.names.pop();
        assert!(matches!(
            ensure(&args, SystemTime::now()),
            Err(CaError::Authority { .. })
        ));
    }
}
