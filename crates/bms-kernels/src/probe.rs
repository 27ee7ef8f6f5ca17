//! What the machine can do at best: reading of memory, and arithmetic that never leaves the registers.
//!
//! Speed means little without these two numbers: a token of one sequence cannot be computed faster than the weights can
//! be read, nor a prompt faster than its products can be summed. Both move with the neighbours on a shared machine, so
//! they are measured in the same run as what is compared with them.

use std::time::{Duration, Instant};

use memmap2::MmapMut;

use crate::{Isa, Pool};

/// Time one measurement of arithmetic takes on every thread: short, so that some run undisturbed on a busy machine.
const PEAK_RUN: Duration = Duration::from_millis(25);
/// Sequential streams a thread reads at once; more than one keeps the hardware's prefetchers busy.
const STREAMS: usize = 4;
/// Bytes a page of memory has at most where it matters here.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// What was measured, per second, over several repetitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The middle one.
    pub median: f64,
    /// The highest: what the machine can do undisturbed.
    pub best: f64,
}

impl Rate {
    /// Of at least one value.
    fn of(mut values: Vec<f64>) -> Rate {
        values.sort_by(f64::total_cmp);
        let median = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
        Rate { median, best: values.last().copied().unwrap_or(f64::NAN) }
    }
}

/// Memory to read, larger than every cache.
#[derive(Debug)]
pub struct ReadProbe {
    memory: MmapMut,
}

impl ReadProbe {
    /// Takes `bytes` of memory and writes to all of it, so that pages are there.
    ///
    /// # Errors
    /// When the system gives no memory.
    pub fn new(bytes: usize) -> std::io::Result<ReadProbe> {
        let mut memory = MmapMut::map_anon(bytes.next_multiple_of(HUGE_PAGE_BYTES))?;
        #[cfg(target_os = "linux")]
        // Small pages are slower, not wrong.
        let _ = memory.advise(memmap2::Advice::HugePage);
        for (page, bytes) in memory.chunks_mut(4096).enumerate() {
            bytes.fill(page as u8);
        }
        Ok(ReadProbe { memory })
    }

    /// Bytes read per second by all threads together; the memory is read `repetitions` times.
    pub fn bandwidth(&self, pool: &Pool, repetitions: usize) -> Rate {
        let share = self.memory.len() / pool.threads() / (STREAMS * 4096) * (STREAMS * 4096);
        let once = |_| {
            let begin = Instant::now();
            pool.run(&|worker| {
                let bytes = &self.memory[worker * share..(worker + 1) * share];
                std::hint::black_box(read(pool.isa(), bytes));
            });
            (share * pool.threads()) as f64 / begin.elapsed().as_secs_f64()
        };
        Rate::of((0..repetitions.max(1)).map(once).collect())
    }
}

/// Reads all of `bytes`, a multiple of 64 bytes in each of the streams, and gives back something that depends on it.
fn read(isa: Isa, bytes: &[u8]) -> u64 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a pool's instruction set is one the machine has.
        Isa::Avx2 => unsafe { x86::read_avx2(bytes) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a pool's instruction set is one the machine has.
        Isa::Avx512 | Isa::Amx => unsafe { x86::read_avx512(bytes) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: a pool's instruction set is one the machine has.
        Isa::Neon | Isa::NeonDotprod => unsafe { aarch64::read(bytes) },
        _ => plain::read(bytes),
    }
}

/// Sums of products of `f32`, as operations per second (two a product) of all threads together.
pub fn f32_peak(pool: &Pool, repetitions: usize) -> Rate {
    peak(pool, repetitions, &|turns| match pool.isa() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a pool's instruction set is one the machine has.
        Isa::Avx2 => unsafe { x86::f32_avx2(turns) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a pool's instruction set is one the machine has.
        Isa::Avx512 | Isa::Amx => unsafe { x86::f32_avx512(turns) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: a pool's instruction set is one the machine has.
        Isa::Neon | Isa::NeonDotprod => unsafe { aarch64::f32(turns) },
        _ => plain::f32(turns),
    })
}

/// Exact sums of products of eight-bit integers in 32 bits, as operations per second (two a product) of all threads
/// together: by the dot-product instruction where the instruction set has one, by multiply and widen where not.
pub fn int8_peak(pool: &Pool, repetitions: usize) -> Rate {
    peak(pool, repetitions, &|turns| match pool.isa() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a pool's instruction set is one the machine has.
        Isa::Avx2 => unsafe { x86::int8_avx2(turns) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a pool's instruction set is one the machine has.
        Isa::Avx512 => unsafe { x86::int8_avx512(turns) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Amx => unsafe { x86::int8_amx(turns) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: a pool's instruction set is one the machine has.
        Isa::Neon => unsafe { aarch64::int8(turns) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: a pool's instruction set is one the machine has.
        Isa::NeonDotprod => unsafe { aarch64::int8_dotprod(turns) },
        _ => plain::int8(turns),
    })
}

/// Rates of `kernel`, which does a number of turns and says how many operations they were. Every thread is timed on
/// its own, by the processor time it got, and the rates are added: a late start of one costs nothing, and neither do
/// programs that share the processors.
fn peak(pool: &Pool, repetitions: usize, kernel: &(dyn Fn(u64) -> f64 + Sync)) -> Rate {
    let mut turns = 1000;
    while turns < 1 << 40 {
        let begin = Instant::now();
        kernel(turns);
        let took = begin.elapsed();
        if PEAK_RUN / 4 <= took {
            turns = (turns as f64 * PEAK_RUN.as_secs_f64() / took.as_secs_f64()) as u64;
            break;
        }
        turns *= 4;
    }
    let once = |_| {
        let total = std::sync::Mutex::new(0.0);
        pool.run(&|_| {
            let begin = Clock::now();
            let operations = kernel(turns.max(1));
            let rate = operations / begin.elapsed().as_secs_f64();
            *total.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += rate;
        });
        total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    Rate::of((0..repetitions.max(1)).map(once).collect())
}

/// A point in the processor time of this thread, where the system tells it; of time itself where not.
struct Clock {
    processor: Option<Duration>,
    wall: Instant,
}

impl Clock {
    fn now() -> Clock {
        Clock { processor: thread_time(), wall: Instant::now() }
    }

    fn elapsed(&self) -> Duration {
        match (self.processor, thread_time()) {
            (Some(begin), Some(end)) if begin < end => end - begin,
            _ => self.wall.elapsed(),
        }
    }
}

/// Processor time this thread has had.
#[cfg(target_os = "linux")]
fn thread_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes `time` and nothing else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } != 0;
    (!failed).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Processor time this thread has had.
#[cfg(not(target_os = "linux"))]
fn thread_time() -> Option<Duration> {
    None
}

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;
