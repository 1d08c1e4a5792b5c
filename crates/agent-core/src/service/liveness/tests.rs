use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOON: &str = "2026-01-01T12:00:00Z";

fn after_noon(seconds: u64) -> SystemTime {
    humantime::parse_rfc3339(NOON).unwrap() + Duration::from_secs(seconds)
}

fn health(failing: Option<ErrorId>) -> Health {
    let failure = failing.map(|id| {
        json!({
            "since": NOON, "at": NOON, "tries": 1,
            "id": id.code(), "what": "", "cause": "", "hint": ""
        })
    });
    serde_json::from_value(json!({
        "agent_id": uuid::Uuid::nil(), "interval_secs": 30,
        "last_try": NOON, "last_heartbeat": NOON, "failure": failure,
    }))
    .unwrap()
}

#[track_caller]
fn expect(health: Option<&Health>, seconds: u64, word: &str) {
    let liveness = Liveness::of(health, &Moment::of_wall(after_noon(seconds)));
    assert_eq!(liveness.rate.word(), word, "after {seconds} s");
}

#[test]
fn three_intervals_and_a_minute_are_waited_for() {
    let fine = health(None);
    expect(None, 0, "none");
    expect(Some(&fine), 0, "ok");
    expect(Some(&fine), 150, "ok");
    expect(Some(&fine), 151, "overdue");
    let stopped = Health {
        stopped_at: Some(NOON.into()),
        ..fine
    };
    expect(Some(&stopped), 10_000, "stopped");
}

#[test]
fn a_blip_is_no_alarm_and_a_refusal_is_one_at_once() {
    let away = health(Some(ErrorId::Unreachable));
    expect(Some(&away), 60, "ok");
    expect(Some(&away), 151, "overdue");
    let waiting = Health {
        next_try: Some("2026-01-01T12:08:00Z".into()),
        ..away.clone()
    };
    expect(Some(&waiting), 400, "failing");
    let trying = Health {
        last_try: Some("2026-01-01T12:05:00Z".into()),
        ..away
    };
    expect(Some(&trying), 301, "failing");
    let never = Health {
        last_heartbeat: None,
        ..trying.clone()
    };
    let early = Health {
        last_try: Some(NOON.into()),
        ..never.clone()
    };
    expect(Some(&early), 60, "ok");
    expect(Some(&never), 301, "failing");
    expect(Some(&health(Some(ErrorId::Rejected))), 0, "failing");
    expect(Some(&health(Some(ErrorId::OtherKey))), 0, "failing");
}

const BOOT: &str = "3f2b6c1e-5a0d-4b7e-8c55-2f6a1d9e0c11";

/// The moment so many seconds after noon and after 1000 s of the boot, on a host whose clock is then
/// set by `step` seconds.
fn moment(seconds: u64, step: i64) -> Moment {
    let distance = Duration::from_secs(step.unsigned_abs());
    let wall = after_noon(seconds);
    let wall = if step < 0 {
        wall.checked_sub(distance)
    } else {
        wall.checked_add(distance)
    };
    Moment {
        wall: wall.unwrap(),
        since_boot: Some(1000 + seconds),
        boot_id: BOOT.into(),
    }
}

const STEPS: [i64; 9] = [
    0,
    -30,
    30,
    -3600,
    3600,
    -86_400,
    86_400,
    -40 * 31_557_600,
    40 * 31_557_600,
];

#[test]
fn a_clock_that_was_set_changes_no_age_and_no_answer() {
    let mut health = Health {
        interval_secs: 30,
        ..Health::default()
    };
    health.started(&moment(0, 0));
    health.accepted(&moment(0, 0));
    health.waits(&moment(0, 0), Duration::from_secs(30));
    let error = crate::error::Error::new(ErrorId::Unreachable, "no connection");
    for step in STEPS {
        let expect = |health: &Health, seconds: u64, word: &str| {
            let liveness = Liveness::of(Some(health), &moment(seconds, step));
            assert_eq!(liveness.rate.word(), word, "{step} s, after {seconds} s");
            assert_eq!(liveness.age, Some(Duration::from_secs(seconds)), "{step} s");
        };
        expect(&health, 20, "ok");
        expect(&health, 200, "overdue");
        let mut failing = health.clone();
        for seconds in [30, 90, 170] {
            failing.missed(&error, &moment(seconds, step));
            failing.waits(&moment(seconds, step), Duration::from_secs(30));
        }
        expect(&failing, 180, "failing");
        failing.stopped(&moment(180, step));
        expect(&failing, 10_000, "stopped");
    }
}

/// As it is after a reboot, and with files of older releases.
#[test]
fn where_only_the_clock_of_the_day_counts_a_heartbeat_of_the_future_is_not_good() {
    let mut health = Health {
        interval_secs: 30,
        ..Health::default()
    };
    health.accepted(&moment(0, 0));
    health.waits(&moment(0, 0), Duration::from_secs(30));
    let old = Health {
        since_boot: None,
        ..health.clone()
    };
    for health in [&health, &old] {
        let back = Moment {
            boot_id: "another".into(),
            ..moment(20, -3600)
        };
        let liveness = Liveness::of(Some(health), &back);
        assert_eq!((liveness.rate, liveness.age), (Rate::Overdue, None));
        let text = liveness.describe(Some(health));
        assert!(
            text.contains("has not reached") && !text.contains("ago"),
            "{text}"
        );
        let later = Moment {
            boot_id: "another".into(),
            ..moment(20, 0)
        };
        assert_eq!(Liveness::of(Some(health), &later).rate, Rate::Good);
    }
    // One that the service notes by the new clock is good again, by whatever clock.
    let mut again = old;
    again.accepted(&moment(50, -3600));
    again.waits(&moment(50, -3600), Duration::from_secs(30));
    assert_eq!(
        Liveness::of(Some(&again), &moment(60, -3600)).rate,
        Rate::Good
    );
}

/// Whoever can write the file is a stranger.
fn any_health() -> impl Strategy<Value = serde_json::Value> {
    let wall = prop_oneof![
        Just(json!(null)),
        Just(json!(NOON)),
        Just(json!("0000-01-01T00:00:00Z")),
        Just(json!("9999-12-31T23:59:59Z")),
        "\\PC{0,30}".prop_map(|text| json!(text)),
    ];
    let boot = prop_oneof![
        Just(json!(null)),
        Just(json!(u64::MAX)),
        (0_u64..5000).prop_map(|seconds| json!(seconds)),
    ];
    let id = prop_oneof![Just(BOOT.to_owned()), Just(String::new()), "\\PC{0,30}"];
    let interval = prop_oneof![Just(0), Just(30), Just(u64::MAX)];
    let walls = proptest::collection::vec(wall, 5);
    let boots = proptest::collection::vec(boot, 5);
    (walls, boots, id, interval).prop_map(|(walls, boots, id, interval)| {
        json!({
            "agent_id": "", "interval_secs": interval,
            "last_try": walls[0], "next_try": walls[1], "last_heartbeat": walls[2],
            "stopped_at": walls[3],
            "failure": walls[4].as_str().map(|since| json!({
                "since": since, "at": since, "tries": u64::MAX,
                "id": "unreachable", "what": "", "cause": "", "hint": ""
            })),
            "since_boot": {
                "boot_id": id, "last_try": boots[0], "next_try": boots[1],
                "last_heartbeat": boots[2], "failing_since": boots[3], "stopped_at": boots[4],
            },
        })
    })
}

proptest! {
    #[test]
    fn a_file_with_any_times_is_read_and_gone_on_with(
        text in any_health(),
        seconds in 0_u64..5000,
        step in prop::sample::select(STEPS.to_vec()),
        pause: u64,
    ) {
        let mut health: Health = serde_json::from_value(text).unwrap();
        let now = moment(seconds, step);
        let liveness = Liveness::of(Some(&health), &now);
        let _ = liveness.describe(Some(&health));
        health.started(&now);
        health.missed(&crate::error::Error::new(ErrorId::Unreachable, "no"), &now);
        health.waits(&now, Duration::from_secs(pause));
        health.accepted(&now);
        let liveness = Liveness::of(Some(&health), &now);
        prop_assert_eq!(liveness.age, Some(Duration::ZERO));
        health.stopped(&now);
        prop_assert_eq!(Liveness::of(Some(&health), &now).rate, Rate::Stopped);
    }
}
