//! The deployment files fit the binary and each other: what a newcomer copies must run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sentinel::config::load::load;
use sentinel::config::model::Config;
use serde::Deserialize as _;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a YAML file, as JSON.
fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Runs `sentinel check` on a text, with these variables set.
fn check(text: &str, env: &BTreeMap<String, String>) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sentinel.yaml");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sentinel"))
        .args(["check", "--config"])
        .arg(&file)
        .envs(env)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    // The test's own process has no such variables: what they expand to stands here already.
    let mut plain = text.to_owned();
    for (name, value) in env {
        plain = plain.replace(&format!("${{{name}}}"), value);
    }
    std::fs::write(&file, plain).unwrap();
    load(&file).unwrap()
}

#[test]
fn every_example_is_yaml() {
    let found = files("examples", "yaml");
    assert!(found.len() >= 4, "{found:?}");
    for file in found {
        assert!(!documents(&read(&file)).is_empty(), "{}", file.display());
    }
}

#[test]
fn the_kubernetes_manifests_carry_a_configuration_that_fits_them() {
    for (file, native, workload) in [
        ("native-sidecar.yaml", true, "Deployment"),
        ("with-ledger.yaml", true, "StatefulSet"),
        ("classic-sidecar.yaml", false, "Deployment"),
    ] {
        let documents = documents(&read(&root().join("examples/kubernetes").join(file)));
        let kind = |kind: &str| {
            let found = documents.iter().find(|document| document["kind"] == kind);
            found.unwrap_or_else(|| panic!("{file} has no {kind}"))
        };
        let pod = &kind(workload)["spec"]["template"]["spec"];
        let list = if native { "initContainers" } else { "containers" };
        let containers = pod[list].as_array().unwrap();
        let sidecar = containers.iter().find(|one| one["name"] == "sentinel").unwrap();
        assert_eq!(sidecar["restartPolicy"] == "Always", native, "{file}");

        // The variables that the configuration refers to are those that the container gets.
        let env: BTreeMap<String, String> = sidecar["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["name"].as_str().unwrap().to_owned(), "10.1.2.3".to_owned()))
            .collect();
        let config = check(kind("ConfigMap")["data"]["sentinel.yaml"].as_str().unwrap(), &env);
        assert_eq!(config.shutdown.native_sidecar, native, "{file}");
        // Where there is a ledger, it is on a volume of the pod's own, which the user can write to.
        let mounts = sidecar["volumeMounts"].as_array().unwrap();
        let kept = mounts.iter().find(|mount| mount["name"] == "ledger");
        let directory = config.ledger.as_ref().and_then(|ledger| ledger.sqlite.parent());
        let mounted = kept.and_then(|mount| mount["mountPath"].as_str()).map(Path::new);
        assert_eq!(mounted, directory, "{file}");
        if kept.is_some() {
            let claim = &kind(workload)["spec"]["volumeClaimTemplates"][0];
            assert_eq!(claim["metadata"]["name"], "ledger", "{file}");
            assert_eq!(
                pod["securityContext"]["fsGroup"], sidecar["securityContext"]["runAsGroup"],
                "{file}"
            );
        }
        let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
        assert!(grace > config.shutdown.max, "{file}: killed before its own deadline");

        let admin = config.listeners.admin.unwrap();
        assert_eq!(sidecar["ports"][0]["containerPort"], admin.port(), "{file}");
        assert!(
            config.admin.token.is_some() && config.admin.hosts == ["10.1.2.3"],
            "{file}"
        );
        let app = pod["containers"].as_array().unwrap();
        let app = app.iter().find(|one| one["name"] == "app").unwrap();
        let base = app["env"][0]["value"].as_str().unwrap();
        let address = base.strip_prefix("http://").unwrap().parse().unwrap();
        assert!(config.data_listeners().contains_key(&address), "{file}: {base}");

        assert_eq!(pod["automountServiceAccountToken"], false, "{file}");
        let security = &sidecar["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true, "{file}");
        assert_eq!(security["runAsNonRoot"], true, "{file}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{file}");
        assert_eq!(security["capabilities"]["drop"][0], "ALL", "{file}");
        for probe in ["startupProbe", "readinessProbe"] {
            let command: Vec<&str> = sidecar[probe]["exec"]["command"]
                .as_array()
                .unwrap()
                .iter()
                .map(|word| word.as_str().unwrap())
                .collect();
            let help = Command::new(env!("CARGO_BIN_EXE_sentinel"))
                .args(&command[1..])
                .arg("--help")
                .output()
                .unwrap();
            assert!(help.status.success(), "{file}: {command:?}");
        }
    }
}

#[test]
fn the_network_policy_lets_the_pods_of_the_example_reach_gateways_and_names_and_nothing_private() {
    let policy = documents(&read(&root().join("examples/kubernetes/network-policy.yaml"))).remove(0);
    let deployment = documents(&read(&root().join("examples/kubernetes/native-sidecar.yaml")));
    let deployment = deployment.iter().find(|one| one["kind"] == "Deployment").unwrap();
    assert_eq!(
        policy["spec"]["podSelector"]["matchLabels"],
        deployment["spec"]["selector"]["matchLabels"]
    );
    let egress = policy["spec"]["egress"].to_string();
    for wanted in ["\"port\":53", "\"port\":443", "169.254.0.0/16", "10.0.0.0/8"] {
        assert!(egress.contains(wanted), "{wanted}");
    }
    assert_eq!(policy["spec"]["ingress"][0]["ports"][0]["port"], 9901);
}

#[test]
fn compose_mounts_a_configuration_that_fits() {
    let file = root().join("examples/docker-compose/compose.yaml");
    let compose = documents(&read(&file)).remove(0);
    let (app, sentinel) = (&compose["services"]["app"], &compose["services"]["sentinel"]);
    let (from, to) = sentinel["volumes"][0].as_str().unwrap().split_once(':').unwrap();
    assert_eq!(to, "/etc/sentinel:ro");
    let mounted = file.parent().unwrap().join(from).join("sentinel.yaml");
    let config = check(&read(&mounted), &BTreeMap::new());
    // The ledger that the configuration asks for is where the image says, on a volume that outlives the container.
    let volume = sentinel["volumes"][1].as_str().unwrap();
    let (named, state) = volume.split_once(':').unwrap();
    assert!(compose["volumes"].get(named).is_some(), "{volume}");
    assert!(config.ledger.is_some() && read(&mounted).contains("${STATE_DIRECTORY:-"));
    let dockerfile = read(&root().join("examples/container/Dockerfile"));
    assert!(dockerfile.contains(&format!("ENV STATE_DIRECTORY={state}")), "{volume}");
    assert!(dockerfile.contains(&format!("VOLUME {state}")), "{volume}");
    let base = app["environment"]["STRIPE_API_BASE"].as_str().unwrap();
    let address = base.strip_prefix("http://").unwrap().parse().unwrap();
    assert!(config.data_listeners().contains_key(&address));
    assert_eq!(app["network_mode"], "service:sentinel");
    let grace = sentinel["stop_grace_period"].as_str().unwrap().trim_end_matches('s');
    assert!(Duration::from_secs(grace.parse().unwrap()) > config.shutdown.max);
    let context = file
        .parent()
        .unwrap()
        .join(sentinel["build"]["context"].as_str().unwrap());
    let dockerfile = context.join(sentinel["build"]["dockerfile"].as_str().unwrap());
    assert!(read(&dockerfile).contains("cargo build --release --locked"));
}

/// The values of a unit's settings, by name.
fn settings(unit: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in unit.lines().filter(|line| !line.starts_with(['#', '[', ';'])) {
        if let Some((name, value)) = line.split_once('=') {
            found.entry(name.to_owned()).or_default().push(value.to_owned());
        }
    }
    found
}

#[test]
fn the_unit_confines_the_process() {
    let unit = settings(&read(&root().join("systemd/sentinel.service")));
    for (name, value) in [
        ("Type", "notify"),
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("ProtectProc", "invisible"),
        ("ProcSubset", "pid"),
        ("ProtectKernelTunables", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectControlGroups", "yes"),
        ("ProtectClock", "yes"),
        ("ProtectHostname", "yes"),
        ("RestrictNamespaces", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("RestrictRealtime", "yes"),
        ("LockPersonality", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RemoveIPC", "yes"),
        ("UMask", "0077"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX AF_NETLINK"),
        ("SystemCallArchitectures", "native"),
        ("StateDirectory", "sentinel"),
        ("StateDirectoryMode", "0700"),
        ("LimitCORE", "0"),
        ("Restart", "always"),
    ] {
        assert_eq!(unit.get(name), Some(&vec![value.to_owned()]), "{name}");
    }
    assert_eq!(
        unit["SystemCallFilter"],
        ["@system-service", "~@privileged @resources @mount @debug"]
    );
    for name in [
        "LimitNOFILE",
        "MemoryMax",
        "TasksMax",
        "IPAddressDeny",
        "OOMScoreAdjust",
        "WatchdogSec",
        "StartLimitBurst",
        "RestartPreventExitStatus",
    ] {
        assert!(unit.contains_key(name), "{name}");
    }
    let config = load(&root().join("config/sentinel.yaml")).unwrap();
    let stop: u64 = unit["TimeoutStopSec"][0].parse().unwrap();
    assert!(Duration::from_secs(stop) > config.shutdown.max);
}

#[test]
fn the_socket_unit_has_the_listeners_of_the_shipped_configuration() {
    let unit = settings(&read(&root().join("systemd/sentinel.socket")));
    let sockets: BTreeSet<_> = unit["ListenStream"].iter().map(|one| one.parse().unwrap()).collect();
    let config = load(&root().join("config/sentinel.yaml")).unwrap();
    let listeners: BTreeSet<_> = config
        .data_listeners()
        .into_keys()
        .chain(config.listeners.admin)
        .collect();
    assert_eq!(sockets, listeners);
}

/// The notes tell what the binary prints, for each SDK that it knows how to point here, and for no other.
#[test]
fn the_notes_on_sdks_have_the_lines_that_the_binary_prints() {
    let mut compared = 0;
    for gateway in ["stripe", "paypal", "braintree", "square", "razorpay", "adyen"] {
        let note = read(&root().join(format!("examples/sdks/{gateway}.md")));
        let blocks: Vec<&str> = note.split("\n```").skip(1).step_by(2).collect();
        let mut known = 0;
        for language in ["python", "node", "go", "java", "ruby", "php", "dotnet"] {
            let printed = Command::new(env!("CARGO_BIN_EXE_sentinel"))
                .args(["env", gateway, "--lang", language])
                .output()
                .unwrap();
            if !printed.status.success() {
                continue;
            }
            known += 1;
            let lines = String::from_utf8(printed.stdout).unwrap();
            let shown = blocks.iter().any(|block| {
                let (_, body) = block.split_once('\n').unwrap();
                body.trim_end() == lines.trim_end()
            });
            assert!(
                shown,
                "examples/sdks/{gateway}.md has not what is printed for {language}:\n{lines}"
            );
        }
        assert_eq!(blocks.len(), known, "examples/sdks/{gateway}.md");
        compared += known;
    }
    assert!(compared >= 31, "{compared}");
}

/// The configurations that README and the pages beside it show are valid, and mean what the text beside them says.
#[test]
fn the_configurations_that_the_pages_show_are_valid() {
    let env = [("STRIPE_SECRET_KEY", "sk_test_1"), ("ADYEN_API_KEY", "AQE1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let mut pages = vec![root().join("README.md")];
    pages.extend(files("docs", "md"));
    let mut shown = 0;
    for page in pages {
        let text = read(&page);
        for block in text.split("\n```yaml\n").skip(1) {
            let (block, _) = block.split_once("\n```").unwrap();
            let config = check(block, &env);
            assert_eq!(config.routes[0].gateways, ["stripe", "adyen"], "{}", page.display());
            shown += 1;
        }
    }
    assert!(shown >= 2, "{shown}");
}

/// What README shows of an SDK is what the binary prints, and the files that it names are there.
#[test]
fn what_the_readme_names_is_there() {
    let text = read(&root().join("README.md"));
    let (_, python) = text.split_once("\n```python\n").unwrap();
    let line = python.split("   #").next().unwrap();
    let printed = Command::new(env!("CARGO_BIN_EXE_sentinel"))
        .args(["env", "stripe", "--lang", "python"])
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains(line), "{line}\n{printed}");
    let mut named = 0;
    for word in text.split('`').skip(1).step_by(2) {
        let path = word.split(' ').next().unwrap();
        let ours = ["tests/", "benches/", "config/", "examples/", "docs/", "systemd/"];
        if ours.iter().any(|folder| path.starts_with(folder)) && !path.contains(['{', '*']) {
            assert!(root().join(path).exists(), "{path}");
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}
