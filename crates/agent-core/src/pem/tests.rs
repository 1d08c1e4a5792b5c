use super::*;
use proptest::prelude::*;

const ONE: &str = "-----BEGIN CERTIFICATE-----\nMAMC\nAQE=\n-----END CERTIFICATE-----\n";
const TWO: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQI=\n-----END CERTIFICATE-----\n";

/// The last byte of each certificate, and its line.
fn read(file: &str) -> Vec<(u8, usize)> {
    certificates(file.as_bytes())
        .unwrap_or_else(|cause| panic!("{file:?}: {cause}"))
        .iter()
        .map(|found| (*found.certificate.last().unwrap(), found.place.line))
        .collect()
}

#[test]
fn no_certificate_of_a_bundle_is_passed_over() {
    let marked = |text: &str| format!("\u{feff}{text}");
    let joined = format!("{}{TWO}", ONE.trim_end());
    for (file, expected) in [
        (format!("{ONE}{TWO}"), vec![(1, 1), (2, 5)]),
        (marked(&format!("{ONE}{TWO}")), vec![(1, 1), (2, 5)]),
        (format!("{ONE}{}", marked(TWO)), vec![(1, 1), (2, 5)]),
        (joined, vec![(1, 1), (2, 4)]),
        (ONE.replace('\n', "\r\n"), vec![(1, 1)]),
        (
            format!("{ONE}{TWO}").replace('\n', "\r"),
            vec![(1, 1), (2, 5)],
        ),
        (format!("CN=Root é\n{ONE}"), vec![(1, 2)]),
        (ONE.replace('\n', "\n    "), vec![(1, 1)]),
        (ONE.replace('=', ""), vec![(1, 1)]),
        (ONE.replace("CERT", "X509 CERT"), vec![(1, 1)]),
        (ONE.replace("CERT", "X.509 CERT"), vec![(1, 1)]),
        (ONE.replace("CERT", "TRUSTED CERT"), vec![(1, 1)]),
        (
            format!("{}{TWO}", ONE.replace("CERTIFICATE", "DH PARAMETERS")),
            vec![(2, 5)],
        ),
        (
            format!("{}{TWO}", ONE.replace("-----B", "# -----B")),
            vec![(2, 5)],
        ),
    ] {
        assert_eq!(read(&file), expected, "{file:?}");
    }
}

#[test]
fn a_broken_certificate_names_its_place() {
    for (file, cause) in [
        (
            format!("{ONE}{}", TWO.replace("MAM", "M*M")),
            "certificate 2 (line 5) is not Base64",
        ),
        (
            format!("{ONE}{}", TWO.replace("--END", "--ENDE")),
            "certificate 2 (line 5) has no END line",
        ),
        (
            format!("{}{TWO}", ONE.replace("END", "")),
            "certificate 1 (line 1) has no END line",
        ),
        (
            ONE.replace("MAMC\nAQE=\n", ""),
            "certificate 1 (line 1) is empty",
        ),
        (String::new(), "no PEM certificate"),
        (
            ONE.replace("CERTIFICATE", "PRIVATE KEY"),
            "no PEM certificate",
        ),
    ] {
        let said = certificates(file.as_bytes()).unwrap_err();
        assert!(said.contains(cause), "{file:?}: {said}");
    }
    let utf16 = certificates(&[0xff, 0xfe, b'-', 0]).unwrap_err();
    assert!(utf16.contains("UTF-16"), "{utf16}");
    let der = certificates(&[0x30, 0x82, 1, 0]).unwrap_err();
    assert!(der.contains("DER"), "{der}");
}

#[test]
fn a_certificate_with_a_damaged_begin_line_is_not_a_comment() {
    for damaged in [
        "-----BEGIN CERTIFICATE----",
        "----BEGIN CERTIFICATE-----",
        "------BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE",
        "----- BEGIN CERTIFICATE-----",
        "-----BEGIN  CERTIFICATE-----",
        "-----BEGIN CERTIFICATE -----",
        "-----BEGINCERTIFICATE-----",
        "-----begin certificate-----",
        "-----BEGIN TRUSTED CERTIFICATE--",
        "  ---BEGIN X509 CERTIFICATE---",
    ] {
        let second = TWO.replace("-----BEGIN CERTIFICATE-----", damaged);
        let file = format!("{ONE}{second}{ONE}");
        let said = certificates(file.as_bytes()).unwrap_err();
        let expected = "certificate 2 (line 5) has a damaged BEGIN line";
        assert!(said.contains(expected), "{damaged}: {said}");
        let usable: Vec<usize> = each(file.as_bytes())
            .flatten()
            .map(|found| found.place.number)
            .collect();
        assert_eq!(usable, [1, 3], "{damaged}");
    }
    // Text around the sections is allowed (RFC 7468, section 2), and other sections are not of interest.
    for comment in [
        "-----BEGIN CERTIFICATE REQUEST----",
        "---- BEGIN SSH2 PUBLIC KEY ----",
        "--- BEGIN CERTIFICATE of the old root ---",
        "-- BEGIN CERTIFICATE --",
        "The root: -----BEGIN CERTIFICATE----",
        "---------------------",
    ] {
        assert_eq!(read(&format!("{comment}\n{ONE}")), [(1, 2)], "{comment}");
    }
}

#[test]
fn the_trust_of_a_trusted_certificate_counts() {
    const SERVERS: [u8; 10] = [0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 1];
    const CLIENTS: [u8; 10] = [0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 2];
    let certificate = [0x30, 3, 2, 1, 1];
    let with = |tag: u8, purpose: [u8; 10]| {
        let trust = [&[0x30, 12, tag, 10], &purpose[..]].concat();
        without_trust(&[&certificate[..], &trust].concat())
    };
    let accepted = Ok(certificate.to_vec());
    assert_eq!(without_trust(&certificate), accepted);
    assert_eq!(with(0x30, SERVERS), accepted);
    assert_eq!(with(0xa0, CLIENTS), accepted);
    assert!(with(0x30, CLIENTS).is_err());
    assert!(with(0xa0, SERVERS).is_err());
    assert!(without_trust(&[0x30, 3, 2, 1, 1, 0x30]).is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(-----|BEGIN |END |CERTIFICATE|TRUSTED |[MA=\\r\\n #]|\u{feff}){0,40}") {
        let _ = certificates(text.as_bytes());
    }

    #[test]
    fn any_trust_is_read_or_refused(der in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = without_trust(&der);
    }
}
