//! .
use portolan_evaluate::*;
use portolan_tensor::*;
use portolan_data::*;
use portolan_augment::*;
use portolan_encoders::*;
use std::time::Instant;
fn main() -> anyhow::Result<()> {
    let d = open("shapes", &Options::default())?;
    let t = Instant::now();
    let (train, test) = (in_memory(d.train, 1<<30), in_memory(d.test.unwrap(), 1<<30));
    println!("render {:?}", t.elapsed());
    let view = presets::evaluation(32, 32).with_normalisation(d.mean, d.std);
    let t = Instant::now();
    let _ = images(&*train, &(0..10000).collect::<Vec<_>>(), &view)?;
    println!("10000 plain views {:?}", t.elapsed());
    for (splits, stem, zero) in [(4, Stem::CifarStrided, false), (1, Stem::CifarStrided, false), (1, Stem::CifarStrided, true), (1, Stem::Imagenet, false)] {
        for seed in 0..2 {
            tch::manual_seed(seed);
            let c = EncoderConfig { width: 16, stem, batch_norm_splits: splits, zero_init_residual: zero, ..EncoderConfig::named("resnet18")? };
            let e = build(&c, &Vars::new(Device::Cpu))?;
            let top = |k: usize| -> anyhow::Result<f64> {
                let f = |s: &dyn Source| features(&*e, s, &view, Device::Cpu, Precision::Fp32);
                knn_top1(&f(&*train)?, &f(&*test)?, 10, &KnnConfig { k, temperature: 0.07 })
            };
            let t = Instant::now();
            let before = top(20)?;
            let took = t.elapsed();
            recalibrate(&*e, &*train, &view, Device::Cpu, 10000, 0)?;
            println!("{splits} {stem:?} {zero} seed {seed}: before {before} after {} features took {took:?}", top(20)?);
        }
    }
    Ok(())
}
