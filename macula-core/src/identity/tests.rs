//! Identities, as they are made, stored, shown and refused.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::file::{FileError, read_key, read_public, replace_key, write_key, write_public};
use super::*;
use crate::wire::{Limits, from_body, to_body};

const NOW: Duration = Duration::from_secs(1_800_000_000);

fn key(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

fn valid() -> Validity {
    Validity::from_now(NOW, Duration::from_secs(86_400))
}

fn authority() -> Authority {
    Authority::with_key("home", key(9), valid()).unwrap()
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("macula-identity-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_node_id_is_read_as_it_is_written() {
    let node = key(1).node_id();
    let text = node.to_string();
    assert_eq!(text.len(), 52);
    assert_eq!(text.parse(), Ok(node));
    assert!(text.starts_with(&node.short()) && node.short().len() == 10);
    assert_eq!(
        serde_json::from_str::<NodeId>(&serde_json::to_string(&node).unwrap()).unwrap(),
        node
    );
    let bytes = to_body(&node, 64).unwrap();
    assert_eq!(bytes.len(), 34);
    assert_eq!(from_body::<NodeId>(&bytes, &Limits::default()).unwrap(), node);
}

#[test]
fn what_is_no_node_id_is_refused() {
    let parse = |text: &str| text.parse::<NodeId>().unwrap_err();
    assert_eq!(parse("abc"), InvalidNodeId::Length(3));
    assert_eq!(parse(&"A".repeat(52)), InvalidNodeId::Character { position: 1 });
    // The neutral element: every signature of it is good.
    assert_eq!(NodeId::from_bytes([0; 32]).unwrap_err(), InvalidNodeId::Key);
    let mut one = [0; 32];
    one[0] = 1;
    assert_eq!(NodeId::from_bytes(one).unwrap_err(), InvalidNodeId::Key);
}

#[test]
fn what_was_found_good_says_nothing_of_what_resembles_it() {
    let good = *key(1).node_id().as_bytes();
    let mut refused = 0;
    // They all have the place of the good one, which is checked before each.
    for (at, bit) in (2..32).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        assert_eq!(NodeId::from_bytes(good).unwrap().as_bytes(), &good);
        let mut other = good;
        other[at] ^= 1 << bit;
        let truth = ed25519_dalek::VerifyingKey::from_bytes(&other).is_ok_and(|key| !key.is_weak());
        for _ in 0..2 {
            assert_eq!(NodeId::from_bytes(other).is_ok(), truth, "{other:?}");
        }
        refused += usize::from(!truth);
    }
    assert!(refused > 60, "half of all bytes are no point on the curve");
}

#[test]
fn a_signature_is_good_for_one_message_of_one_node() {
    let signature = key(1).sign(b"message");
    key(1).node_id().verify(b"message", &signature).unwrap();
    assert_eq!(key(1).node_id().verify(b"massage", &signature), Err(BadSignature));
    assert_eq!(key(2).node_id().verify(b"message", &signature), Err(BadSignature));
}

#[test]
fn a_key_keeps_its_secret_and_survives_its_form() {
    let key = key(3);
    assert_eq!(format!("{key:?}"), format!("Keypair({})", key.node_id().short()));
    let again = Keypair::from_pem(&key.to_pem()).unwrap();
    assert_eq!(again.node_id(), key.node_id());
    assert_eq!(Keypair::from_pem("secret").unwrap_err(), InvalidKey::Form);
    assert_ne!(key.derive("a"), key.derive("b"));
    assert_ne!(Keypair::generate().unwrap().node_id(), Keypair::generate().unwrap().node_id());
}

#[test]
fn an_envelope_opens_only_for_its_context() {
    let envelope = Envelope::seal(&key(1), "record", &b"body"[..]);
    assert_eq!(envelope.open("record").unwrap(), &b"body"[..]);
    assert_eq!(envelope.open("recor"), Err(BadSignature));
    let bytes = to_body(&envelope, 1024).unwrap();
    let mut read: Envelope = from_body(&bytes, &Limits::default()).unwrap();
    assert_eq!(read, envelope);
    insta::assert_snapshot!(data_encoding::HEXLOWER.encode(&bytes));
    // The context cannot flow over into the body.
    read = Envelope::seal(&key(1), "rec", &b"ordbody"[..]);
    assert!(read.open("record").is_err());
}

#[test]
fn an_issued_certificate_says_what_it_should() {
    let (authority, node) = (authority(), key(1).node_id());
    let facts = authority.issue(node, valid(), &["admin", "relay"]).unwrap().facts().unwrap();
    assert_eq!((facts.node_id, facts.validity), (node, valid()));
    assert_eq!(facts.common_name, node.to_string());
    assert_eq!((facts.issuer.as_str(), facts.is_ca, facts.may_sign), ("CN=home", false, true));
    assert_eq!(facts.roles, ["admin", "relay"]);
    let own = authority.certificate().facts().unwrap();
    assert!(own.is_ca && !own.may_sign);
    let lengths: Vec<usize> =
        (0..20).map(|_| authority.issue(node, valid(), &[]).unwrap().der().len()).collect();
    assert!(lengths.iter().all(|len| *len == lengths[0]), "{lengths:?}");
    let own = self_signed(&key(1), valid()).unwrap().facts().unwrap();
    assert_eq!((own.node_id, own.issuer), (node, own.subject));
}

#[test]
fn an_authority_survives_its_form() {
    let authority = authority();
    let read =
        Authority::from_pem(&authority.certificate().to_pem(), &authority.key_pem()).unwrap();
    assert_eq!(read.realm(), "home");
    let wrong = Authority::from_pem(&authority.certificate().to_pem(), &key(1).to_pem());
    assert_eq!(wrong.unwrap_err(), IssueError::NoAuthority);
    let leaf = authority.issue(key(1).node_id(), valid(), &[]).unwrap();
    let wrong = Authority::from_pem(&leaf.to_pem(), &key(1).to_pem());
    assert_eq!(wrong.unwrap_err(), IssueError::NoAuthority);
}

#[test]
fn what_cannot_be_issued_is_refused() {
    let (authority, node) = (authority(), key(1).node_id());
    let backwards = Validity { not_before: NOW, not_after: NOW };
    assert!(matches!(
        authority.issue(node, backwards, &[]).unwrap_err(),
        IssueError::Validity { .. }
    ));
    assert!(matches!(authority.issue(node, valid(), &["a b"]).unwrap_err(), IssueError::Name(_)));
    assert!(matches!(Authority::generate("", valid()).unwrap_err(), IssueError::Name(_)));
}

#[test]
fn a_revocation_list_survives_its_form() {
    let revoked = [Revocation { serial: vec![0x41; 16], at: NOW }];
    let list = authority().revocation_list(&revoked, 1, valid()).unwrap();
    assert_eq!(crl_from_pem(&crl_to_pem(&list)).unwrap(), [list]);
    assert!(crl_from_pem(&authority().certificate().to_pem()).is_err());
}

#[test]
fn what_is_cut_off_or_damaged_is_not_passed_over() {
    let text = crl_to_pem(&authority().revocation_list(&[], 1, valid()).unwrap());
    let cut = text.get(..text.len() - 30).unwrap();
    for bad in ["", "garbage", cut, &format!("{text}{cut}"), &format!("{cut}{text}")] {
        assert!(crl_from_pem(bad).is_err(), "{bad}");
    }
    let one = authority().certificate().to_pem();
    let told =
        Certificate::read_pem_bundle(&format!("{one}{}", one.get(..300).unwrap())).unwrap_err();
    assert_eq!(told.to_string(), "it holds 2 certificates, of which only 1 are whole");
    let changed = one.replacen("-----END CERTIFICATE-----", "-----END KEY-----", 1);
    assert!(Certificate::read_pem_bundle(&changed).is_err());
}

#[test]
fn an_authority_knows_what_it_has_issued() {
    let (home, node) = (authority(), key(1).node_id());
    let twin = Authority::with_key("home", key(8), valid()).unwrap();
    let issued = home.issue(node, valid(), &[]).unwrap();
    assert_eq!(home.has_issued(&issued), Ok(true));
    assert_eq!(twin.has_issued(&issued), Ok(false), "another realm of the same name");
    assert_eq!(home.has_issued(home.certificate()), Ok(false), "its own is no node's");
}

#[test]
fn a_bundle_has_certificates_and_nothing_else() {
    let one = authority().certificate().to_pem();
    assert_eq!(Certificate::read_pem_bundle(&format!("{one}{one}")).unwrap().len(), 2);
    assert_eq!(
        Certificate::read_pem_bundle("").unwrap_err().to_string(),
        "no whole certificate is in it"
    );
    let with_key = format!("{one}{}", *key(1).to_pem());
    assert!(matches!(Certificate::read_pem_bundle(&with_key), Err(MalformedCertificate::Pem(_))));
    let many = one.repeat(65);
    let refused = Certificate::read_pem_bundle(&many).unwrap_err();
    assert_eq!(refused.to_string(), "65 certificates, at most 64 are read");
}

#[test]
fn a_pin_is_that_of_the_key_and_not_of_the_certificate() {
    let node = key(1).node_id();
    let issued = authority().issue(node, valid(), &[]).unwrap().spki_sha256().unwrap();
    assert_eq!(issued, self_signed(&key(1), valid()).unwrap().spki_sha256().unwrap());
    assert_eq!(issued.to_string().parse(), Ok(issued));
    assert!("sha256/short".parse::<SpkiPin>().is_err());
}

#[test]
fn a_key_file_is_its_owners_and_is_never_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let path = folder.0.join("node.key");
    write_key(&path, &key(1)).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(read_key(&path).unwrap().node_id(), key(1).node_id());
    assert!(matches!(write_key(&path, &key(2)), Err(FileError::Exists { .. })));
    assert_eq!(read_key(&path).unwrap().node_id(), key(1).node_id());
    replace_key(&path, &key(2)).unwrap();
    assert_eq!(read_key(&path).unwrap().node_id(), key(2).node_id());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let told = read_key(&path).unwrap_err().to_string();
    assert!(told.contains("mode 0644") && told.contains("chmod 600"), "{told}");
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "something was left behind");
}

#[test]
fn what_a_killed_process_has_left_beside_a_file_is_no_hindrance() {
    let folder = Folder::new();
    let path = folder.0.join("public");
    // It had the same number as this one has, as the first of a container always has.
    for number in 0..1_000 {
        let beside = format!("public.{}.{number}.new", std::process::id());
        std::fs::write(folder.0.join(beside), "half").unwrap();
    }
    write_public(&path, b"whole").unwrap();
    assert_eq!(read_public(&path).unwrap(), "whole");
}

#[test]
fn files_that_are_none_are_refused() {
    let folder = Folder::new();
    let path = folder.0.join("file");
    assert!(matches!(read_key(&path), Err(FileError::Io { .. })));
    assert!(matches!(read_public(&folder.0), Err(FileError::NotAFile { .. })));
    write_public(&path, &[0xff]).unwrap();
    assert!(matches!(read_public(&path), Err(FileError::NotText { .. })));
    let long = folder.0.join("long.key");
    write_public(&long, &vec![b'x'; 20_000]).unwrap();
    assert!(matches!(read_key(&long), Err(FileError::TooLong { len: 20_000, .. })));
}

proptest! {
    #[test]
    fn no_bytes_make_a_certificate_panic(
        cut in any::<usize>(),
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 0..8),
    ) {
        let mut der = authority().issue(key(1).node_id(), valid(), &["x"]).unwrap().der().to_vec();
        for (at, byte) in changes {
            let at = at % der.len();
            der[at] = byte;
        }
        der.truncate(1 + cut % der.len());
        if let Ok(certificate) = Certificate::from_der(der) {
            drop(certificate.facts());
            drop(certificate.spki_sha256());
        }
    }
}
