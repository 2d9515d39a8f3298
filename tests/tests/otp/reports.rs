//! Crash reports: what they say and how long they can get.

use macula_core::supervision::event::What;
use macula_core::supervision::exit::REASON_LEN_MAX;
use macula_core::supervision::proto::Context;
use macula_core::supervision::{ChildKind, ExitReason, Report, Restart, Supervisor};

use crate::support::{Begin, Do, Log, boom, calm, kid, of, plain, start, stop, top};

fn told(
    events: &mut tokio::sync::broadcast::Receiver<macula_core::supervision::Event>,
) -> Vec<Report> {
    std::iter::from_fn(|| events.try_recv().ok())
        .filter_map(|event| match event.what {
            What::Report(report) => Some(report),
            _ => None,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn format_log_1() {
    let log = Log::default();
    let (spec, a) = of(Restart::Transient, "a", &log);
    let root = start(top().child(Supervisor::new("inner").unwrap().child(spec))).await;
    let mut events = root.events();
    a.does(Do::fail()).await;
    let reports = told(&mut events);
    assert_eq!(reports.len(), 1);
    let report = &reports[0];
    assert_eq!(report.supervisor.as_str(), "inner");
    assert_eq!((report.context, &report.reason), (Context::ChildTerminated, &boom()));
    assert_eq!(report.offender.path.as_str(), "inner/a");
    assert_eq!(
        (report.offender.kind, report.offender.restart),
        (ChildKind::Worker, Restart::Transient)
    );
    assert_eq!((report.offender.incarnation, report.offender.restarts), (1, 0));
    assert_eq!(
        report.to_string(),
        "supervisor inner: child_terminated: inner/a (incarnation 1, restarted 0 times): error: \
         boom"
    );

    a.script([Begin::Fail]);
    a.does(Do::Panic).await;
    let contexts: Vec<_> = told(&mut events).into_iter().map(|report| report.context).collect();
    let melted = [Context::ChildTerminated, Context::Meltdown];
    assert_eq!(contexts[..2], melted, "inner allows itself one restart in five seconds");
    calm().await;
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn format_log_2() {
    let log = Log::default();
    let ((a_spec, a), (b_spec, b)) = (plain("a", &log), kid("b", &log, |worker| worker));
    let root = start(top().child(a_spec).child(b_spec)).await;
    let mut events = root.events();
    let long = "x".repeat(REASON_LEN_MAX * 4);
    a.does(Do::End(ExitReason::from_error(&std::io::Error::other(long.clone())))).await;
    b.does(Do::End(ExitReason::panic(long, None))).await;
    let reports = told(&mut events);
    assert_eq!(reports.len(), 2);
    for report in reports {
        let text = report.to_string();
        assert!(text.len() < REASON_LEN_MAX + 256, "{} bytes", text.len());
        assert!(text.contains("xxxx") && text.ends_with('…'));
    }
    stop(&root).await;
}
