//! Whether what is said fits the tree that it is said of.

use std::collections::BTreeMap;

use macula_core::path::Path;
use macula_core::supervision::policy::IllegalPolicy;
use macula_core::supervision::{AutoShutdown, ChildSpec, Override, Overrides};

use super::error::{Childless, Error, Fault, Place, Problem};
use super::keys::{CHILD, FLAGS, Section};
use super::near::nearest;

/// All that stands in a tree, by path.
type Declared<'a> = BTreeMap<Path, Standing<'a>>;

/// One that stands in a tree.
struct Standing<'a> {
    spec: &'a ChildSpec,
    parent: Option<Path>,
}

/// What is said of the tree `root`, and of what stands in it on other nodes, if that is given: that says
/// nothing here, and is no mistake.
pub(super) fn overrides(
    sections: &BTreeMap<Path, Section>,
    root: &ChildSpec,
    elsewhere: Option<&ChildSpec>,
) -> Result<Overrides, Error> {
    let mut declared = declared(root);
    for (path, standing) in elsewhere.into_iter().flat_map(self::declared) {
        declared.entry(path).or_insert(standing);
    }
    let (mut overrides, mut faults) = (Overrides::default(), Error::none());
    for (path, section) in sections {
        match declared.get(path) {
            Some(standing) => {
                misplaced(path, section, standing).for_each(|fault| faults.push(fault));
                overrides.set(path.clone(), section.over(standing.spec.policy().backoff));
            }
            None => faults.push(nameless(path, section, &declared)),
        }
    }
    faults.sort();
    // What has no meaning by itself would only give more faults here.
    faults.or(())?;
    let mut faults = Error::none();
    for (path, standing) in &declared {
        illegal(path, standing, sections, &overrides, &declared)
            .into_iter()
            .for_each(|fault| faults.push(fault));
    }
    faults.sort();
    faults.or(overrides)
}

fn declared(root: &ChildSpec) -> Declared<'_> {
    let mut declared = Declared::new();
    let mut ahead = vec![(Path::root(), Standing { spec: root, parent: None })];
    while let Some((path, standing)) = ahead.pop() {
        for child in standing.spec.children() {
            if let Some(id) = child.id() {
                ahead.push((path.join(id), Standing { spec: child, parent: Some(path.clone()) }));
            }
        }
        declared.insert(path, standing);
    }
    declared
}

/// The keys that mean nothing for what stands at the path.
fn misplaced<'a>(
    path: &'a Path,
    section: &'a Section,
    standing: &Standing<'_>,
) -> impl Iterator<Item = Fault> + use<'a> {
    let worker = standing.spec.supervisor().is_none();
    let root = standing.parent.is_none();
    let owned = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<String>>();
    section.keys.iter().filter_map(move |(&key, place)| {
        let problem = if worker && FLAGS.contains(&key) {
            Problem::WorkerFlag { key, path: path.clone(), legal: owned(CHILD) }
        } else if root && CHILD.contains(&key) {
            Problem::RootPolicy { key, legal: owned(FLAGS) }
        } else {
            return None;
        };
        Some(Fault { place: place.clone(), problem })
    })
}

/// What is wrong with a path that names nothing.
fn nameless(path: &Path, section: &Section, declared: &Declared<'_>) -> Fault {
    let names = || declared.keys().map(Path::as_str);
    let ending = |name: &&str| name.rsplit('/').next() == Some(path.as_str());
    let near = nearest(path.as_str(), names()).or_else(|| names().find(ending));
    let near = near.filter(|near| !near.is_empty());
    let path = path.clone();
    let above = declared.iter().filter(|(above, _)| above.holds(&path));
    let deepest = above.max_by_key(|(above, _)| above.as_str().len());
    let above = deepest.map(|(above, _)| above.clone()).unwrap_or_default();
    let near = near.filter(|near| *near != above.as_str()).map(str::to_owned);
    let why = match deepest.map(|(_, standing)| standing.spec.supervisor()) {
        Some(None) => Childless::Worker,
        Some(Some((_, true))) => Childless::Dynamic,
        Some(Some((_, false))) | None => Childless::Empty,
    };
    let below = declared.iter().filter(|(_, standing)| standing.parent.as_ref() == Some(&above));
    let legal: Vec<String> = below.map(|(below, _)| below.to_string()).collect();
    let problem = if legal.is_empty() {
        Problem::NoChildren { path, above, why, near }
    } else {
        Problem::NoSuchPath { path, above, legal, near }
    };
    Fault { place: section.place.clone(), problem }
}

/// What cannot stand together at a path, as far as configuration has a hand in it.
fn illegal(
    path: &Path,
    standing: &Standing<'_>,
    sections: &BTreeMap<Path, Section>,
    overrides: &Overrides,
    declared: &Declared<'_>,
) -> Vec<Fault> {
    let said = overrides.get(path);
    let (own, parent) = (sections.get(path), standing.parent.as_ref());
    let above = parent.and_then(|parent| sections.get(parent));
    let blame = |source: IllegalPolicy| {
        let place = blamed(&source, own, above)?.clone();
        Some(Fault { place, problem: Problem::Illegal { path: path.clone(), source } })
    };
    let flags = standing
        .spec
        .supervisor()
        .and_then(|(flags, dynamic)| said.apply_flags(flags).check(dynamic).err());
    let policy = parent.and_then(|parent| {
        let auto_shutdown = auto_shutdown(parent, &overrides.get(parent), declared);
        said.apply(*standing.spec.policy()).check(auto_shutdown).err()
    });
    flags.into_iter().chain(policy).filter_map(blame).collect()
}

fn auto_shutdown(path: &Path, said: &Override, declared: &Declared<'_>) -> AutoShutdown {
    let flags = declared.get(path).and_then(|standing| standing.spec.supervisor());
    flags.map(|(flags, _)| said.apply_flags(flags).auto_shutdown).unwrap_or_default()
}

/// The place of the key that makes the difference. None if it is all in the code, which is told
/// when the tree starts.
fn blamed<'a>(
    illegal: &IllegalPolicy,
    own: Option<&'a Section>,
    above: Option<&'a Section>,
) -> Option<&'a Place> {
    let keys: &[&str] = match illegal {
        IllegalPolicy::SignificantPermanent => &["significant", "restart"],
        IllegalPolicy::SignificantWithoutAutoShutdown => &["significant"],
        IllegalPolicy::AutoShutdownDynamic => &["auto_shutdown"],
        IllegalPolicy::StrategyDynamic => &["strategy"],
        IllegalPolicy::PeriodTooShort => &["period"],
        IllegalPolicy::LivenessTooShort => &["liveness"],
        IllegalPolicy::Jitter(_) => &["jitter"],
        IllegalPolicy::BackoffShrinks { .. } => &["initial", "max"],
    };
    let place = keys.iter().find_map(|&key| own?.keys.get(key));
    let of_parent = matches!(illegal, IllegalPolicy::SignificantWithoutAutoShutdown);
    place.or_else(|| above.filter(|_| of_parent)?.keys.get("auto_shutdown"))
}
