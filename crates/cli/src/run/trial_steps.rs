//! Training steps that write no files, for the measurements of `bench` and for the time estimate.

use anyhow::Result;
use portolan_data::Dataset;
use portolan_images::{Loader, LoaderConfig};
use portolan_method::{Batch, ImageMethod, StepContext, StepLoss};
use portolan_optim::Optimizer;
use portolan_tensor::{Device, Kind, Tensor};
use portolan_train::{BatchSource, Clock, StepPlan, Steps, Training, optimizer};

use crate::config::RunConfig;

/// Training that writes no files.
pub(crate) struct Work<'a> {
    config: &'a RunConfig,
    device: Device,
    plan: StepPlan,
    pub(crate) optimizer: Optimizer,
    steps: Steps,
    input: Input,
    step: u64,
}

enum Input {
    /// The same random views at every step.
    Views(Vec<Tensor>),
    Images(Box<Loader>),
}

impl<'a> Work<'a> {
    /// Prepares training on these images, read by the given number of threads, or on the same
    /// random views at every step.
    ///
    /// # Errors
    /// If the settings conflict, or no image can be read.
    pub(crate) fn new(
        config: &'a RunConfig,
        method: &dyn ImageMethod,
        device: Device,
        images: Option<(&Dataset, usize)>,
    ) -> Result<Self> {
        let training = &config.training;
        let batch_size = training.batch_size;
        let mut plan = StepPlan { items: batch_size, batch_size, epochs: 1_000_000 };
        let input = match images {
            None => {
                let float = (Kind::Float, device);
                let view = |size: i64| Tensor::randn([batch_size as i64, 3, size, size], float);
                let sizes = method.views().iter().map(|spec| i64::from(spec.size()));
                Input::Views(
                    sizes.map(|size| portolan_tensor::channels_last(&view(size))).collect(),
                )
            }
            Some((data, threads)) => {
                let images = data.pretraining();
                plan.items = images.len();
                training.validate(plan.items, device)?;
                let feed = LoaderConfig {
                    images,
                    views: method.views().to_vec(),
                    plan,
                    accumulate: training.accumulate,
                    seed: config.seed,
                    augment: config.augment,
                    device,
                };
                Input::Images(Box::new(Loader::start(feed, 0, threads)?))
            }
        };
        let optimizer = optimizer(training, method)?;
        let steps = Steps::new(training, device)?;
        Ok(Work { config, device, plan, optimizer, steps, input, step: 0 })
    }

    /// Does `n` steps.
    ///
    /// # Errors
    /// If no image can be read, or the method fails.
    pub(crate) fn steps(
        &mut self,
        method: &mut dyn ImageMethod,
        n: u64,
        clock: &mut Clock,
    ) -> Result<()> {
        (0..n).try_for_each(|_| self.step(method, clock).map(drop))
    }

    /// Does the next step and returns the losses of its micro-batches.
    ///
    /// # Errors
    /// If no image can be read, or the method fails.
    pub(crate) fn step(
        &mut self,
        method: &mut dyn ImageMethod,
        clock: &mut Clock,
    ) -> Result<Vec<StepLoss>> {
        let cx = StepContext::new(self.step, self.plan.total_steps(), self.device)
            .with_epoch(self.plan.epoch_of(self.step))
            .with_steps_per_epoch(self.plan.steps_per_epoch())
            .with_seed(self.config.seed);
        let input = &mut self.input;
        let next_batch = |clock: &mut Clock| match input {
            Input::Images(loader) => loader.next_batch(clock),
            Input::Views(views) => Ok(Batch {
                inputs: views.iter().map(Tensor::shallow_clone).collect(),
                ids: (0..views[0].size()[0] as usize).collect(),
            }),
        };
        let (config, optimizer) = (&self.config.training, &mut self.optimizer);
        let mut training = Training { method, optimizer, config, plan: self.plan, reducer: None };
        self.step += 1;
        self.steps.step(&mut training, &cx, next_batch, clock)
    }

    /// Whether steps are now replays of a CUDA graph.
    pub(crate) fn captured(&self) -> bool {
        self.steps.captured()
    }
}
