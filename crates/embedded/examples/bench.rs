use kubeopencode_embedded::{
    apply,
    kinds::{FieldValidation, Registry},
    schema::Document,
};
use serde_json::{Value, json};
use std::time::Instant;
fn main() {
    let r = Registry::builtin();
    let text = include_str!("../tests/data/requests.jsonl");
    let mut crd = Value::Null;
    for l in text.lines() {
        if l.contains("\"crd-create-widgets\"") {
            let v: Value = serde_json::from_str(l).unwrap();
            crd = v["request_body"].clone();
        }
    }
    let k = r.install_crd(&crd).unwrap()[0].clone();
    let w = json!({"apiVersion":"example.test/v1","kind":"Widget","metadata":{"name":"w","uid":"x"},"spec":{"size":5,"ports":[{"name":"http","number":80}]}});
    let run = |k: &kubeopencode_embedded::kinds::Kind, o: &Value, n: u32| {
        let t = Instant::now();
        let mut dec = 0.;
        let mut tr = 0.;
        let mut va = 0.;
        for _ in 0..n {
            let a = Instant::now();
            let mut d = k
                .decode(Document::from(o.clone()), FieldValidation::Warn)
                .unwrap()
                .object;
            dec += a.elapsed().as_secs_f64();
            let a = Instant::now();
            apply::track_update(
                k,
                None,
                &mut d,
                apply::Writer {
                    manager: "m",
                    time: "2026-01-01T00:00:00Z",
                    subresource: None,
                },
            );
            tr += a.elapsed().as_secs_f64();
            let a = Instant::now();
            k.prepare_create(&mut d);
            let c = k.validate(&d, None, None);
            assert!(c.is_empty(), "{c:?}");
            va += a.elapsed().as_secs_f64();
        }
        println!(
            "{}: {:?} each; decode {:.1}us track {:.1}us validate {:.1}us",
            k.kind,
            t.elapsed() / n,
            dec / f64::from(n) * 1e6,
            tr / f64::from(n) * 1e6,
            va / f64::from(n) * 1e6
        );
    };
    run(&k, &w, 200);
    run(&k, &w, 200);
    let j = r.lookup("batch", "v1", "jobs").unwrap();
    let job = json!({"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j","uid":"u1"},"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"main","image":"i:1","env":[{"name":"A","value":"b"}]}]}}}});
    let t = Instant::now();
    run(&j, &job, 1);
    println!("first {:?}", t.elapsed());
    run(&j, &job, 200);
    let t = Instant::now();
    let _ = kubeopencode_embedded::openapi::index(&r);
    println!("openapi index {:?}", t.elapsed());
}
