//! A certificate for this machine, made by the server of a pair, and how the client learns of it.
//!
//! In:    an address.
//! Out:   `ADDRESS CERTIFICATE`, the certificate in PEM without its line ends.
//! Holds: the client trusts this certificate alone, and checks it as any other.

use std::net::SocketAddr;

use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::Fault;

/// Whom the certificate is for.
pub(crate) const NAME: &str = "localhost";
const LINE_END: char = '|';

/// A server's key and certificate, in PEM.
pub(crate) struct Own {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Own {
    /// ECDSA over P-256, as rcgen has it by default.
    pub(crate) fn new() -> Result<Self, Fault> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_owned()])?;
        Ok(Self { certificate: cert.pem(), key: signing_key.serialize_pem() })
    }

    /// What the client is told.
    pub(crate) fn introduce(&self, address: SocketAddr) -> String {
        format!("{address} {}", self.certificate.replace("\r\n", "\n").replace('\n', &LINE_END.to_string()))
    }
}

/// The address and the certificate.
pub(crate) fn introduced(text: &str) -> Result<(SocketAddr, String), Fault> {
    let (address, certificate) = text.split_once(' ').ok_or("the server said no certificate")?;
    Ok((address.parse()?, certificate.replace(LINE_END, "\n")))
}
