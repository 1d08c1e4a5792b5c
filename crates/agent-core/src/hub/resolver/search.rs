//! The search list of resolv.conf(5): the full names that a short name can stand for.

/// Largest `ndots` (resolv.conf(5)).
const MOST_DOTS: usize = 15;

/// Returns the names to query, in their order. A name with fewer dots than `ndots` is completed first.
pub(super) fn candidates(name: &str, resolv_conf: &str, own_name: &str) -> Vec<String> {
    let (domains, ndots) = read(resolv_conf, own_name);
    if name.ends_with('.') || domains.is_empty() {
        return vec![name.to_owned()];
    }
    // With its final dot, the C library does not search once more.
    let absolute = format!("{name}.");
    let completed = domains.iter().map(|domain| format!("{name}.{domain}."));
    if name.matches('.').count() >= ndots {
        std::iter::once(absolute).chain(completed).collect()
    } else {
        completed.chain([absolute]).collect()
    }
}

/// Reads the domains and `ndots`. The last `search` or `domain` counts; without one, it is the domain of this
/// host's own name.
fn read<'a>(resolv_conf: &'a str, own_name: &'a str) -> (Vec<&'a str>, usize) {
    let own_domain = own_name.split_once('.').map(|(_, domain)| domain);
    let mut domains: Vec<&str> = own_domain.into_iter().collect();
    let mut ndots = 1;
    for line in resolv_conf.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("search") => domains = words.collect(),
            Some("domain") => domains = words.take(1).collect(),
            Some("options") => {
                let mut given = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                ndots = given.next_back().unwrap_or(ndots).min(MOST_DOTS);
            }
            _ => {}
        }
    }
    let trimmed = domains
        .into_iter()
        .map(|domain| domain.trim_matches('.'))
        .filter(|domain| !domain.is_empty());
    (trimmed.collect(), ndots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_completed_as_resolv_conf_says() {
        let long = format!("search {} last.test", "filler.example ".repeat(40));
        let long = candidates("hub", &long, "web-3");
        assert_eq!((long.len(), long[40].as_str()), (42, "hub.last.test."));
        for (name, resolv_conf, own_name, expected) in [
            (
                "hub.test",
                "nameserver 192.0.2.1",
                "web-3",
                &["hub.test"][..],
            ),
            (
                "hub",
                "",
                "web-3.example.com",
                &["hub.example.com.", "hub."],
            ),
            (
                "hub",
                "search a.test b.test.\n",
                "web-3",
                &["hub.a.test.", "hub.b.test.", "hub."],
            ),
            (
                "hub.x",
                "search a.test\n",
                "web-3",
                &["hub.x.", "hub.x.a.test."],
            ),
            (
                "hub.x",
                "search a.test\noptions timeout:1 ndots:2",
                "web-3",
                &["hub.x.a.test.", "hub.x."],
            ),
            ("hub.", "search a.test\n", "web-3", &["hub."]),
            (
                "hub",
                "search a.test\ndomain b.test c.test # d",
                "x.y",
                &["hub.b.test.", "hub."],
            ),
            ("hub", "search .\n", "x.y", &["hub"]),
            ("hub", "; search a.test\n#search b.test", "web-3", &["hub"]),
            (
                "hub",
                "search\ta.test\r\noptions ndots:x",
                "web-3",
                &["hub.a.test.", "hub."],
            ),
        ] {
            assert_eq!(
                candidates(name, resolv_conf, own_name),
                expected,
                "{resolv_conf}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_name_itself_is_always_a_candidate(text in "(search|domain|options|[ .;#a-z:0-9\n]){0,20}") {
            let names = candidates("hub.test", &text, "web-3");
            let is_it = |name: &String| name.trim_end_matches('.') == "hub.test";
            prop_assert!(names.iter().any(is_it));
        }
    }
}
