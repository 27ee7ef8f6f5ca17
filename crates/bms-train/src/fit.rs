//! The training loop.

use std::sync::atomic::Ordering;
use std::time::Instant;

use bms_wire::{Code, Error, Result};
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::{Bytes, Device, Tensor, TensorData};
use rand::seq::SliceRandom;

use crate::checkpoint::{Best, Checkpoint, Folder, Newest};
use crate::curves::{Curves, Point};
use crate::event::TrainEvent;
use crate::loss::cross_entropy;
use crate::network::design::{InputShape, layers};
use crate::network::{Network, to_vec};
use crate::options::TrainOptions;
use crate::random::{Purpose, stream};
use crate::schedule::Schedule;
use crate::workers::Workers;

/// Where samples come from.
pub(crate) trait Source: Sync {
    /// Number of samples.
    fn len(&self) -> usize;
    /// Label of sample `idx`.
    fn label(&self, idx: usize) -> usize;
    /// Appends the values of sample `idx` to `out`; augmented as drawn for `(seed, epoch)` when given.
    fn fill(&self, idx: usize, draw: Option<(u64, usize)>, out: &mut Vec<f32>) -> Result<()>;
}

/// What is trained on what.
pub(crate) struct Task<'a> {
    pub(crate) train: &'a dyn Source,
    pub(crate) validation: Option<&'a dyn Source>,
    pub(crate) input: InputShape,
    pub(crate) labels: usize,
    /// Of options and data; a checkpoint of another task is refused.
    pub(crate) fingerprint: String,
}

/// The result.
pub(crate) struct Fitted {
    pub(crate) network: Network,
    pub(crate) curves: Curves,
}

/// Rows one worker takes at a time. Fixed, because sums in another grouping round differently.
const SHARD_ROWS: usize = 16;

/// The state that a checkpoint holds.
struct State {
    epoch: usize,
    network: Network,
    optimiser: ModuleOptimizer,
    curves: Curves,
    best: Option<Best>,
}

/// One run.
struct Run<'a> {
    task: &'a Task<'a>,
    options: &'a TrainOptions<'a>,
    workers: Workers,
    schedule: Schedule,
    steps: usize,
    device: Device,
    started: Instant,
    steps_done: usize,
}

/// Trains until the last epoch, or until patience runs out.
pub(crate) fn fit(
    task: &Task<'_>,
    options: &TrainOptions<'_>,
    events: &mut dyn FnMut(TrainEvent),
) -> Result<Fitted> {
    let steps = task.train.len().div_ceil(options.batch);
    let schedule = Schedule {
        peak: options.learning_rate,
        warmup_steps: options.warmup_epochs * steps,
        steps: options.epochs * steps,
    };
    let workers = Workers::new(options.threads)?;
    let device = Device::flex().autodiff();
    let mut run =
        Run { task, options, workers, schedule, steps, device, started: Instant::now(), steps_done: 0 };
    let folder = options.checkpoint_dir.as_deref().map(Folder::open).transpose()?;
    let mut state = run.begin(folder.as_ref(), events)?;
    events(TrainEvent::Started {
        parameters: state.network.parameters(),
        samples: task.train.len(),
        epochs: options.epochs,
        steps,
    });
    while state.epoch < options.epochs && !run.out_of_patience(&state) {
        state = run.epoch(state, events)?;
        if let Some(folder) = &folder {
            let path = folder.save(&run.checkpoint(&state)?)?;
            events(TrainEvent::CheckpointSaved { path, epoch: state.epoch });
        }
    }
    run.finish(state, events)
}

impl Run<'_> {
    /// A fresh start, or where the newest checkpoint left off.
    fn begin(&self, folder: Option<&Folder>, events: &mut dyn FnMut(TrainEvent)) -> Result<State> {
        let layers = layers(&self.options.architecture, self.task.input, self.task.labels);
        let network = Network::new(layers, self.task.input, self.options.seed, &self.device);
        let optimiser =
            AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(self.options.weight_decay).init();
        let fresh = State { epoch: 0, network, optimiser, curves: Curves::default(), best: None };
        let Some(folder) = folder else { return Ok(fresh) };
        if !self.options.resume {
            return match folder.is_empty()? {
                true => Ok(fresh),
                false => Err(Error::new(
                    Code::Conflict,
                    "the checkpoint folder holds checkpoints of an earlier run",
                )
                .hint("Resume that run, or use an empty checkpoint folder.")),
            };
        }
        let Newest { found, skipped } = folder.newest(&self.task.fingerprint)?;
        for (path, reason) in skipped {
            events(TrainEvent::CheckpointSkipped { path, reason });
        }
        let Some((path, checkpoint)) = found else { return Ok(fresh) };
        let optimiser = fresh
            .optimiser
            .from_bytes(Bytes::from_bytes_vec(checkpoint.optimiser))
            .map_err(|e| Error::new(Code::InvalidInput, format!("failed to unpack the optimiser: {e:?}")))?;
        let network = fresh.network.with_bytes(&checkpoint.network)?;
        events(TrainEvent::Resumed { epoch: checkpoint.epoch, path });
        let Checkpoint { epoch, curves, best, .. } = checkpoint;
        Ok(State { epoch, network, optimiser, curves, best })
    }

    fn checkpoint(&self, state: &State) -> Result<Checkpoint> {
        let optimiser = state
            .optimiser
            .into_bytes()
            .map_err(|e| Error::new(Code::Internal, format!("failed to pack the optimiser: {e:?}")))?;
        Ok(Checkpoint {
            epoch: state.epoch,
            fingerprint: self.task.fingerprint.clone(),
            curves: state.curves.clone(),
            network: state.network.to_bytes()?,
            optimiser: optimiser.to_vec(),
            best: state.best.clone(),
        })
    }

    /// One pass over the training samples, then one over the validation samples.
    fn epoch(&mut self, mut state: State, events: &mut dyn FnMut(TrainEvent)) -> Result<State> {
        let (epoch, started) = (state.epoch + 1, Instant::now());
        let mut order: Vec<usize> = (0..self.task.train.len()).collect();
        order.shuffle(&mut stream(self.options.seed, Purpose::Shuffle, epoch as u64, 0));
        let (mut loss_sum, mut hits_sum) = (0.0_f64, 0_usize);
        for (step, rows) in order.chunks(self.options.batch).enumerate() {
            self.check_cancelled(state.epoch)?;
            let (network, loss, hits) = self.step(state.network, &mut state.optimiser, epoch, step, rows)?;
            state.network = network;
            loss_sum += f64::from(loss) * rows.len() as f64;
            hits_sum += hits;
            self.steps_done += 1;
            let accuracy = hits as f32 / rows.len() as f32;
            let eta_seconds = self.eta_seconds(epoch, step + 1);
            events(TrainEvent::Step {
                epoch,
                step: step + 1,
                steps: self.steps,
                loss,
                accuracy,
                eta_seconds,
            });
        }
        let validated = self.validate(&state.network)?;
        let rows = order.len() as f64;
        let point = Point {
            epoch,
            learning_rate: self.schedule.rate(epoch * self.steps - 1) as f32,
            train_loss: (loss_sum / rows) as f32,
            train_accuracy: (hits_sum as f64 / rows) as f32,
            validation_loss: validated.map(|(loss, _)| loss),
            validation_accuracy: validated.map(|(_, accuracy)| accuracy),
        };
        state.epoch = epoch;
        self.keep_best(&mut state, point.validation_loss)?;
        state.curves.points.push(point.clone());
        let (seconds, eta_seconds) = (started.elapsed().as_secs_f64(), self.eta_seconds(epoch, self.steps));
        events(TrainEvent::Epoch { point, epochs: self.options.epochs, seconds, eta_seconds });
        Ok(state)
    }

    /// One update of the weights from `rows`. Returns the new network, the batch's loss and its hits.
    fn step(
        &self,
        network: Network,
        optimiser: &mut ModuleOptimizer,
        epoch: usize,
        step: usize,
        rows: &[usize],
    ) -> Result<(Network, f32, usize)> {
        let shards: Vec<&[usize]> = rows.chunks(SHARD_ROWS).collect();
        let number = (epoch - 1) * self.steps + step;
        let parts = self.workers.map(shards.len(), |shard| {
            self.shard(&network, epoch, (number, shard), shards[shard], rows.len())
        });
        let (mut gradients, mut loss, mut hits) = (GradientsAccumulator::new(), 0.0, 0);
        for part in parts {
            let part = part?;
            gradients.accumulate(&network, part.gradients);
            loss += part.loss;
            hits += part.hits;
        }
        if !loss.is_finite() {
            let message = format!("the loss is not finite at epoch {epoch}, step {}", step + 1);
            return Err(Error::new(Code::InvalidRequest, message)
                .hint("Lower the learning rate, and check the data for extreme values."));
        }
        let rate = self.schedule.rate(number);
        let network = self.workers.one(|| optimiser.step(rate, network, gradients.grads()));
        Ok((network, loss, hits))
    }

    /// Forward and backward over one shard of a batch of `batch` rows.
    fn shard(
        &self,
        network: &Network,
        epoch: usize,
        (number, shard): (usize, usize),
        rows: &[usize],
        batch: usize,
    ) -> Result<Part> {
        // Leaves of its own: threads that share none never wait for each other's graph.
        let network = network.clone().fork(&self.device);
        let (input, targets) =
            self.load(self.task.train, rows, Some((self.options.seed, epoch)), &self.device)?;
        let mut rng = stream(self.options.seed, Purpose::Dropout, number as u64, shard as u64);
        let logits = network.forward(input, Some(&mut rng));
        let measured = cross_entropy(logits, &targets, self.options.label_smoothing, batch)?;
        let gradients = GradientsParams::from_grads(measured.loss.backward(), &network);
        Ok(Part { gradients, loss: measured.loss.into_scalar::<f32>(), hits: measured.hits })
    }

    /// Samples `rows` of `source` as a tensor `[rows, values]`, with their labels.
    fn load(
        &self,
        source: &dyn Source,
        rows: &[usize],
        draw: Option<(u64, usize)>,
        device: &Device,
    ) -> Result<(Tensor<2>, Vec<usize>)> {
        let values = self.task.input.values();
        let mut input = Vec::with_capacity(rows.len() * values);
        for &idx in rows {
            source.fill(idx, draw, &mut input)?;
        }
        let targets = rows.iter().map(|&idx| source.label(idx)).collect();
        Ok((Tensor::from_data(TensorData::new(input, [rows.len(), values]), device), targets))
    }

    /// Mean loss (without smoothing) and accuracy on the validation samples.
    fn validate(&self, network: &Network) -> Result<Option<(f32, f32)>> {
        let Some(source) = self.task.validation else { return Ok(None) };
        let network = network.valid();
        let order: Vec<usize> = (0..source.len()).collect();
        let shards: Vec<&[usize]> = order.chunks(8 * SHARD_ROWS).collect();
        let parts = self.workers.map(shards.len(), |shard| -> Result<(f32, usize)> {
            let (input, targets) = self.load(source, shards[shard], None, &Device::flex())?;
            let measured = cross_entropy(network.forward(input, None), &targets, 0.0, source.len())?;
            Ok((measured.loss.into_scalar::<f32>(), measured.hits))
        });
        let (mut loss, mut hits) = (0.0, 0);
        for part in parts {
            let (part_loss, part_hits) = part?;
            loss += part_loss;
            hits += part_hits;
        }
        Ok(Some((loss, hits as f32 / source.len() as f32)))
    }

    /// Remembers the weights when the validation loss is the lowest so far and early stopping is on.
    fn keep_best(&self, state: &mut State, validation_loss: Option<f32>) -> Result<()> {
        let (Some(_), Some(loss)) = (self.options.patience, validation_loss) else { return Ok(()) };
        if state.best.as_ref().is_none_or(|best| loss < best.loss) {
            state.best = Some(Best { epoch: state.epoch, loss, network: state.network.to_bytes()? });
        }
        Ok(())
    }

    fn out_of_patience(&self, state: &State) -> bool {
        match (self.options.patience, &state.best) {
            (Some(patience), Some(best)) => patience <= state.epoch - best.epoch,
            _ => false,
        }
    }

    /// The best weights when early stopping is on, else the last.
    fn finish(&self, state: State, events: &mut dyn FnMut(TrainEvent)) -> Result<Fitted> {
        let State { epoch, mut network, curves, best, .. } = state;
        if let Some(best) = best {
            if epoch < self.options.epochs {
                events(TrainEvent::StoppedEarly { epoch, best_epoch: best.epoch });
            }
            network = network.with_bytes(&best.network)?;
        }
        let network = network.valid();
        let finite = network
            .values()?
            .iter()
            .all(|layer| layer.weight.data.iter().chain(&layer.bias.data).all(|value| value.is_finite()));
        match finite {
            true => Ok(Fitted { network, curves }),
            false => Err(Error::new(Code::InvalidRequest, "the trained weights are not finite")
                .hint("Lower the learning rate, and check the data for extreme values.")),
        }
    }

    fn check_cancelled(&self, epochs_done: usize) -> Result<()> {
        let cancelled = self.options.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed));
        match (cancelled, &self.options.checkpoint_dir) {
            (false, _) => Ok(()),
            (true, Some(_)) => {
                Err(Error::new(Code::Unavailable, format!("stopped after epoch {epochs_done} as asked"))
                    .hint("Start it again with resume to go on from its last checkpoint."))
            }
            (true, None) => {
                Err(Error::new(Code::Unavailable, format!("stopped after epoch {epochs_done} as asked")))
            }
        }
    }

    /// Seconds until the end by the pace so far, after `step` steps of `epoch`.
    fn eta_seconds(&self, epoch: usize, step: usize) -> f64 {
        let left = (self.options.epochs * self.steps).saturating_sub((epoch - 1) * self.steps + step);
        self.started.elapsed().as_secs_f64() / self.steps_done.max(1) as f64 * left as f64
    }
}

/// What one shard adds to a step.
struct Part {
    gradients: GradientsParams,
    loss: f32,
    hits: usize,
}

/// Logits `[rows, labels]`, row-major, of flat samples: the reference the exported graph is held against.
pub(crate) fn logits(network: &Network, rows: usize, input: Vec<f32>) -> Result<Vec<f32>> {
    let values = network.input().values();
    let input = Tensor::from_data(TensorData::new(input, [rows, values]), &Device::flex());
    to_vec(network.forward(input, None))
}
