//! Every limit in one place, checked against each other at compile time.
//!
//! At a limit the answer is a clear error ([`crate::Code::TooLarge`], `QueueFull`, `StorageFull`)
//! and nothing is lost.

/// Bytes of one HTTP request body on an inference route.
pub const INFER_BODY_BYTES_MAX: usize = 32 << 20;
/// Bytes of one inference request whose tensors are in binary form, by REST or gRPC.
pub const TENSOR_BODY_BYTES_MAX: usize = 160 << 20;
/// Bytes of one uploaded file of a bundle.
pub const BLOB_BYTES_MAX: u64 = 64 << 30;
/// Bytes of chunks in one request of a push, and of one answer to an edge node that fetches some.
pub const CHUNKS_BODY_BYTES_MAX: usize = 32 << 20;
/// Chunks asked about in one request.
pub const CHUNKS_ASKED_MAX: usize = 20_000;
/// Bytes of the list of a file's chunks.
pub const RECIPE_BYTES_MAX: usize = 32 << 20;
/// Bytes of a manifest, signature or other JSON control document.
pub const CONTROL_BODY_BYTES_MAX: usize = 4 << 20;
/// Bytes of one JSON answer a client reads.
pub const REPLY_BYTES_MAX: usize = 256 << 20;
/// Files in one bundle.
pub const BUNDLE_FILES_MAX: usize = 10_000;
/// Bytes of one bundle, all files.
pub const BUNDLE_BYTES_MAX: u64 = 64 << 30;
/// Bytes of a relative path inside a bundle.
pub const PATH_BYTES_MAX: usize = 1024;
/// Characters of a model, alias or node name.
pub const NAME_CHARS_MAX: usize = 100;
/// Bytes of the encrypted header of a sealed model: the list of its files.
pub const SEAL_HEADER_BYTES_MAX: usize = 16 << 20;
/// Bytes of the envelope that holds a sealed model's wrapped keys.
pub const SEAL_ENVELOPE_BYTES_MAX: usize = 1 << 20;
/// Those who can open one sealed model.
pub const SEAL_RECIPIENTS_MAX: usize = 256;
/// KiB of memory that deriving a key from a passphrase may take.
pub const PASSPHRASE_MEMORY_KIB_MAX: u32 = 1 << 20;
/// Passes over that memory.
pub const PASSPHRASE_PASSES_MAX: u32 = 16;
/// Bytes of a key, passphrase or token file.
pub const KEY_FILE_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a file with a server's certificate and those above it, or with its key.
pub const TLS_FILE_BYTES_MAX: u64 = 1 << 20;
/// Seconds before its certificate expires from which on a server warns.
pub const CERTIFICATE_WARNING_SECONDS: u64 = 14 * 24 * 60 * 60;
/// Bytes that are taken off a connection which speaks plain HTTP where TLS is spoken, so that it can read why it is closed.
pub const PLAIN_BYTES_MAX: usize = 64 << 10;
/// Bytes of a lease, approval, revocation or other small signed statement.
pub const STATEMENT_BYTES_MAX: usize = 64 << 10;
/// Days one lease may last.
pub const LEASE_DAYS_MAX: u32 = 3660;
/// Keys, revocations and rules in one trust policy.
pub const TRUST_ENTRIES_MAX: usize = 10_000;
/// Approvals of one bundle.
pub const APPROVALS_MAX: usize = 64;
/// Values in one input tensor.
pub const TENSOR_VALUES_MAX: usize = 32 << 20;
/// Width and height of a picture, in pixels.
pub const IMAGE_SIDE_MAX: u32 = 16_384;
/// Pixels of a decoded picture.
pub const IMAGE_PIXELS_MAX: u64 = 64 << 20;
/// Pixels of a picture that an answer is drawn into.
pub const DRAWN_PIXELS_MAX: u64 = 16 << 20;
/// Steps of one picture in a pipeline, and states of one graph.
pub const PIPELINE_STEPS_MAX: usize = 16;
/// Labels or characters of a pipeline.
pub const PIPELINE_LABELS_MAX: usize = 100_000;
/// Tokens of one text given to a graph.
pub const PIPELINE_TOKENS_MAX: usize = 8192;
/// Bytes of either end of a file given to a graph.
pub const PIPELINE_BYTES_MAX: usize = 1 << 20;
/// Boxes of one picture.
pub const BOXES_MAX: usize = 1000;
/// Candidates over a detector's threshold that are compared with each other: the comparisons grow with their square.
pub const BOX_CANDIDATES_MAX: usize = 30_000;
/// Regions of text in one picture, each of which is read by itself.
pub const REGIONS_MAX: usize = 3000;
/// Samples of one recording.
pub const AUDIO_SAMPLES_MAX: usize = 16 << 20;
/// Windows of one recording, each of which is a run of the graph.
pub const AUDIO_WINDOWS_MAX: usize = 64 << 10;
/// Levels of priority of inference requests, 1 goes first.
pub const PRIORITY_LEVELS: u64 = 9;
/// Requests of one stream that are worked on at once.
pub const STREAM_REQUESTS_MAX: usize = 16;
/// Streams one HTTP/2 connection may have open.
pub const CONNECTION_STREAMS_MAX: u32 = 128;
/// Rows in one batch given to an engine.
pub const BATCH_ROWS_MAX: usize = 64;
/// Rows waiting for one model.
pub const QUEUE_ROWS_MAX: usize = 1024;
/// Messages in one conversation.
pub const MESSAGES_MAX: usize = 10_000;
/// Functions a model is offered in one request.
pub const TOOLS_MAX: usize = 128;
/// Prompts in one completion request.
pub const PROMPTS_MAX: usize = 64;
/// Pieces of an answer that wait for a client to read them before the answer is given up.
pub const ANSWER_PIECES_MAX: usize = 4096;
/// Seconds one generated answer may take, queueing included.
pub const GENERATION_SECONDS_MAX: u64 = 3600;
/// Bytes of a LoRA adapter.
pub const ADAPTER_BYTES_MAX: u64 = 4 << 30;
/// Times the gateway sends one request to a fresh slot before it gives up.
pub const SLOT_RETRIES_MAX: usize = 8;
/// Milliseconds one inference request may take, queueing and retries included.
pub const INFER_DEADLINE_MS: u64 = 30_000;
/// Requests to one language model open at once, answers that stream included.
pub const LANGUAGE_REQUESTS_MAX: usize = 512;
/// Milliseconds one request to a language model may take, from its first byte to the last token of its answer.
pub const LANGUAGE_DEADLINE_MS: u64 = 600_000;
/// Times the gateway sends one request to a language model to a fresh slot, before anything of its answer went out.
pub const LANGUAGE_RETRIES_MAX: usize = 2;
/// Times one stream of a language model goes on in a fresh slot after its slot was lost.
pub const CONTINUATIONS_MAX: usize = 16;
/// Of these, times in a row without a new token in between: what ends every slot at the same place is given up.
pub const CONTINUATIONS_STUCK_MAX: usize = 3;
/// Bytes of a request whose stream can go on in a fresh slot: the gateway keeps it until the last token.
pub const CONTINUABLE_BODY_BYTES_MAX: usize = 4 << 20;
/// Bytes the gateway keeps of what a stream has said, so that it can go on in a fresh slot; a stream that says more cannot.
pub const CONTINUATION_BYTES_MAX: usize = 2 << 20;
/// Repetitions of a model's requests that are free: all that a lost slot can have held at once, a few times over.
pub const RETRIES_FREE_MAX: usize = 4096;
/// Percent of a model's requests that may be repeated once the free repetitions are used up.
pub const RETRY_SHARE_PERCENT: usize = 20;
/// Milliseconds for which a slot's work may stand still before the slot is replaced: no step, no answer, no processor time.
pub const SLOT_HUNG_MS: u64 = 3_000;
/// Milliseconds between two reports of a slot on what it has done.
pub const SLOT_REPORT_MS: u64 = 500;
/// Seconds for which a slot may use the processor without a step or an answer before it counts as hung.
pub const SLOT_SPIN_SECONDS_MAX: u64 = 120;
/// External engines one server knows.
pub const ENGINES_MAX: usize = 100;
/// Arguments of an external engine's command, variables of its environment, and paths at which its health is asked.
pub const ENGINE_ARGUMENTS_MAX: usize = 256;
/// Bytes of one of these.
pub const ENGINE_ARGUMENT_BYTES_MAX: usize = 4096;
/// Seconds an external engine may take until it is ready.
pub const ENGINE_START_SECONDS_MAX: u64 = 3600;
/// Seconds nothing may be heard of an external engine before it counts as hung.
pub const ENGINE_SILENT_SECONDS_MAX: u64 = 600;
/// Seconds requests may wait for an external engine, with no answer to any, although it seems to be well.
pub const ENGINE_STALLED_SECONDS_MAX: u64 = 3600;
/// Requests an external engine works on at a time.
pub const ENGINE_REQUESTS_MAX: usize = 1024;
/// Bytes of one event in a stream of an external engine.
pub const ENGINE_EVENT_BYTES_MAX: usize = 4 << 20;
/// Seconds a client may take nothing of an answer before it is cut off.
pub const CLIENT_STALL_SECONDS_MAX: u64 = 30;
/// Seconds open requests get to finish when the server stops.
pub const DRAIN_SECONDS_MAX: u64 = 20;
/// Workers one launcher keeps on a Slurm cluster.
pub const SLURM_WORKERS_MAX: u32 = 1000;
/// Seconds of walltime of one of their jobs, at least: Slurm counts in minutes.
pub const SLURM_WALLTIME_SECONDS_MIN: u64 = 60;
/// Seconds of walltime of one of their jobs, at most.
pub const SLURM_WALLTIME_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// Bytes of Slurm's list of jobs.
pub const SLURM_LISTING_BYTES_MAX: u64 = 256 << 20;
/// Samples waiting on an edge node for the centre.
pub const EDGE_OUTBOX_SAMPLES_MAX: usize = 100_000;
/// Bytes of one sample kept on an edge node.
pub const EDGE_SAMPLE_BYTES_MAX: usize = 1 << 20;
/// Samples in one delivery to the centre.
pub const EDGE_DELIVERY_SAMPLES_MAX: usize = 64;
/// Requests to a language model that wait at once.
pub const GENERATE_QUEUE_MAX: usize = 1024;
/// Answers to one prompt.
pub const ANSWERS_MAX: usize = 64;
/// Answers a language model computes at once.
pub const SEQUENCES_MAX: usize = 256;
/// Highest sampling temperature.
pub const TEMPERATURE_MAX: f32 = 5.0;
/// Most probable tokens reported beside a chosen one.
pub const LOGPROBS_MAX: usize = 20;
/// Stop strings of one request.
pub const STOP_STRINGS_MAX: usize = 16;
/// Bytes of a stop string.
pub const STOP_STRING_BYTES_MAX: usize = 256;
/// Stop tokens of one request.
pub const STOP_TOKENS_MAX: usize = 64;
/// Tokens one request biases.
pub const LOGIT_BIASES_MAX: usize = 1024;
/// Bytes of a JSON schema, grammar, regular expression or list of choices.
pub const CONSTRAINT_BYTES_MAX: usize = 256 << 10;
/// Weight of one expression of a constraint: its parts, each reference counted as what it stands for, and the product of
/// what must hold at once. The memory to compile an expression grows with the square of its parts.
pub const EXPRESSION_WEIGHT_MAX: u64 = 8 << 10;
/// Weights of all expressions of one constraint together.
pub const CONSTRAINT_WEIGHT_MAX: u64 = 16 << 10;
/// Numerator up to which an answer's number is held to be a multiple of another: each remainder is a state.
pub const MULTIPLE_OF_MAX: u64 = 64 << 10;
/// Choices of one constraint.
pub const CHOICES_MAX: usize = 1000;
/// Adapters loaded beside one model.
pub const ADAPTERS_MAX: usize = 64;
/// Inputs of one embedding request.
pub const EMBED_INPUTS_MAX: usize = 2048;
/// Key-value pairs in the header of a model file.
pub const MODEL_METADATA_PAIRS_MAX: usize = 65_536;
/// Tensors in one model.
pub const MODEL_TENSORS_MAX: usize = 65_536;
/// Tokens in a language model's vocabulary.
pub const VOCABULARY_TOKENS_MAX: usize = 1 << 20;
/// Bytes of one text given to a tokenizer.
pub const TOKENIZE_BYTES_MAX: usize = 8 << 20;
/// Bytes of a chat template.
pub const CHAT_TEMPLATE_BYTES_MAX: usize = 1 << 20;
/// Bytes of the prompt a chat template writes.
pub const CHAT_PROMPT_BYTES_MAX: usize = 8 << 20;
/// Bytes of a filter in a search.
pub const FILTER_BYTES_MAX: usize = 16 << 10;
/// Conditions of one filter.
pub const FILTER_CONDITIONS_MAX: usize = 100;
/// Things in one page of a search's answer.
pub const SEARCH_RESULTS_MAX: usize = 1000;
/// Values in one page of a metric's history.
pub const METRIC_HISTORY_MAX: usize = 25_000;
/// Experiments of one registry.
pub const EXPERIMENTS_MAX: u64 = 10_000;
/// Runs of one experiment.
pub const RUNS_MAX: u64 = 1_000_000;
/// Metrics, parameters and tags logged at once.
pub const RUN_BATCH_MAX: usize = 1000;
/// Metrics, parameters or tags of one run.
pub const RUN_KEYS_MAX: u64 = 10_000;
/// Bytes of the name of an experiment or a run, of a person's name, and of a stage.
pub const TITLE_BYTES_MAX: usize = 500;
/// Bytes of the name of a tag, parameter or metric.
pub const TAG_KEY_BYTES_MAX: usize = 1000;
/// Bytes of the value of a tag or parameter.
pub const TAG_VALUE_BYTES_MAX: usize = 32 << 10;
/// Tags of one model or version.
pub const TAGS_MAX: u64 = 1000;
/// Bytes of the description of a model or version, and of a comment.
pub const DESCRIPTION_BYTES_MAX: usize = 64 << 10;
/// Bytes of what is said of a data set that went into a run.
pub const LINK_BYTES_MAX: usize = 256 << 10;
/// People who have to agree before a version enters a stage.
pub const STAGE_APPROVALS_MAX: u64 = 20;
/// Bytes of the text that names a source.
pub const SOURCE_BYTES_MAX: usize = 4096;
/// Files of one pull.
pub const PULL_FILES_MAX: usize = 10_000;
/// Bytes of one pull, at most, whatever is asked for.
pub const PULL_BYTES_MAX: u64 = 4 << 40;
/// Bytes of one page of a source's listing, of a manifest and of other answers about a source.
pub const SOURCE_LISTING_BYTES_MAX: usize = 16 << 20;
/// Pages of a source's listing.
pub const SOURCE_PAGES_MAX: usize = 1000;
/// Redirections followed for one request.
pub const REDIRECTS_MAX: usize = 5;
/// Files that arrive at once, at most.
pub const PULL_JOBS_MAX: usize = 64;
/// Times a transfer is tried again without having moved on.
pub const PULL_TRIES_MAX: u32 = 6;
/// Times one transfer goes on after it broke off.
pub const PULL_RESUMPTIONS_MAX: u32 = 100;
/// Seconds a source may ask to wait; asked for more, a pull ends and says so.
pub const PULL_PAUSE_SECONDS_MAX: u64 = 120;
/// Versions in one answer about lineage.
pub const LINEAGE_VERSIONS_MAX: usize = 1000;
/// Steps of a rollout.
pub const ROLLOUT_STEPS_MAX: usize = 50;
/// Seconds a rollout may take, one of its steps, and what it keeps loaded afterwards.
pub const ROLLOUT_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// Copies of requests that wait for a candidate; others are dropped.
pub const SHADOW_QUEUE_MAX: usize = 64;
/// Bytes of a request and its answer that are copied for a candidate; larger ones are dropped.
pub const SHADOW_BYTES_MAX: usize = 1 << 20;
/// Slots of one version on one server.
pub const SLOTS_MAX: u32 = 64;
/// Processors that a deployment may ask for each of its slots.
pub const SLOT_CORES_MAX: u64 = 1024;
/// Bytes of memory that a deployment may ask for each of its slots, at least.
pub const SLOT_MEMORY_BYTES_MIN: u64 = 1 << 20;
/// Bytes of memory that a deployment may ask for each of its slots, at most.
pub const SLOT_MEMORY_BYTES_MAX: u64 = 4 << 40;
/// Seconds without a request after which a version's last slot may go, at most.
pub const IDLE_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// Seconds a lease lasts at most without being renewed.
pub const LEASE_SECONDS_MAX: u64 = 3600;
/// Bytes of the name of a lease, and of who holds it.
pub const LEASE_NAME_BYTES_MAX: usize = 500;
/// Keys of one registry, those that were revoked included.
pub const API_KEYS_MAX: u64 = 10_000;
/// Models one key may be restricted to.
pub const KEY_MODELS_MAX: usize = 100;
/// Models one key may have limits of their own for.
pub const KEY_MODEL_LIMITS_MAX: usize = 20;
/// Seconds a key may last, when it ends by itself.
pub const KEY_SECONDS_MAX: u64 = 10 * 366 * 24 * 3600;
/// Workers one centre knows, those that have left included.
pub const WORKERS_MAX: u64 = 1000;
/// Milliseconds between two heartbeats of a worker.
pub const WORKER_HEARTBEAT_MS: u64 = 1000;
/// Milliseconds without a word from a worker after which it counts as gone, and its slots are placed elsewhere.
pub const WORKER_GONE_MS: u64 = 5000;
/// Addresses of replicas that a worker is told of.
pub const CENTRES_MAX: usize = 16;
/// Milliseconds between two words of a replica that it is there for workers.
pub const CENTRE_NOTE_MS: u64 = 5000;
/// Milliseconds without one after which workers are not told of it any more.
pub const CENTRE_GONE_MS: u64 = 60_000;
/// Labels of one worker.
pub const WORKER_LABELS_MAX: usize = 32;
/// Slots on one worker.
pub const WORKER_SLOTS_MAX: usize = 256;
/// Versions a worker remembers that it has refused to load.
pub const WORKER_REFUSALS_MAX: usize = 256;
/// Seconds a worker's certificate is good for; it is renewed before half of that has passed.
pub const WORKER_CERTIFICATE_SECONDS: u64 = 24 * 3600;
/// Join tokens that are good at one time.
pub const JOIN_TOKENS_MAX: u64 = 10_000;
/// Workers one join token lets in.
pub const JOIN_TOKEN_USES_MAX: u64 = 10_000;
/// Seconds a join token is good for.
pub const JOIN_TOKEN_SECONDS_MAX: u64 = 30 * 24 * 3600;

const _: () = assert!(4 * WORKER_HEARTBEAT_MS <= WORKER_GONE_MS, "one lost heartbeat is no loss of a worker");
const _: () = assert!(4 * CENTRE_NOTE_MS <= CENTRE_GONE_MS, "a replica that is slow is there");
const _: () = assert!(
    2 * WORKER_GONE_MS < INFER_DEADLINE_MS,
    "a request outlives the loss of a worker and the start of its slot elsewhere"
);
const _: () = assert!(BLOB_BYTES_MAX <= BUNDLE_BYTES_MAX, "the largest file fits into a bundle");
const _: () = assert!(
    16 * BUNDLE_BYTES_MAX <= SLOT_MEMORY_BYTES_MAX,
    "memory can be asked for the largest model, its keys and values many times over"
);
const _: () = assert!(PULL_FILES_MAX <= BUNDLE_FILES_MAX, "what was pulled can be a bundle");
const _: () = assert!(
    CHUNKS_ASKED_MAX * 70 < CONTROL_BODY_BYTES_MAX,
    "a request about the most chunks, 64 digits and some marks each, is a control document"
);
const _: () =
    assert!(SEAL_HEADER_BYTES_MAX >= BUNDLE_FILES_MAX * (PATH_BYTES_MAX + 128), "a header lists all files");
const _: () = assert!(QUEUE_ROWS_MAX.is_multiple_of(BATCH_ROWS_MAX), "the queue drains in whole batches");
const _: () =
    assert!(TENSOR_VALUES_MAX * 4 < TENSOR_BODY_BYTES_MAX, "the largest f32 tensor fits a binary body");
const _: () =
    assert!(INFER_BODY_BYTES_MAX <= TENSOR_BODY_BYTES_MAX, "tensors in JSON take no more than in binary");
const _: () = assert!(TENSOR_BODY_BYTES_MAX <= REPLY_BYTES_MAX, "what comes in can go out");
const _: () = assert!(DRAIN_SECONDS_MAX * 1000 <= INFER_DEADLINE_MS, "a drain never outlives a deadline");
const _: () =
    assert!(INFER_DEADLINE_MS <= LANGUAGE_DEADLINE_MS, "writing takes longer than one run of a graph");
const _: () =
    assert!(CLIENT_STALL_SECONDS_MAX * 1000 < LANGUAGE_DEADLINE_MS, "a stall shows within a deadline");
const _: () =
    assert!(LANGUAGE_REQUESTS_MAX <= GENERATE_QUEUE_MAX, "what the gateway admits the engine can queue");
const _: () =
    assert!(4 * SLOT_REPORT_MS <= SLOT_HUNG_MS, "a slot is heard several times before it counts as hung");
const _: () = assert!(
    SLOT_HUNG_MS < INFER_DEADLINE_MS / 2 && INFER_DEADLINE_MS < SLOT_SPIN_SECONDS_MAX * 1000,
    "a request outlives a hung slot, and a run that takes a request's whole time is no hang"
);
const _: () = assert!(CONTINUATIONS_STUCK_MAX <= CONTINUATIONS_MAX, "being stuck is the sooner end");
const _: () = assert!(
    CONTINUABLE_BODY_BYTES_MAX + CONTINUATION_BYTES_MAX <= INFER_BODY_BYTES_MAX,
    "it can be sent again"
);
const _: () =
    assert!(QUEUE_ROWS_MAX + LANGUAGE_REQUESTS_MAX < RETRIES_FREE_MAX, "all open requests can be repeated");
const _: () = assert!(EDGE_SAMPLE_BYTES_MAX <= INFER_BODY_BYTES_MAX, "a sample was a request once");
const _: () = assert!(ANSWERS_MAX <= SEQUENCES_MAX, "all answers to one prompt can be computed at once");
const _: () =
    assert!(CHAT_PROMPT_BYTES_MAX <= TOKENIZE_BYTES_MAX, "what a chat template writes can be tokenized");
const _: () = assert!(
    RUN_BATCH_MAX * (TAG_KEY_BYTES_MAX + 100) <= CONTROL_BODY_BYTES_MAX,
    "a full batch of metrics fits into a request"
);
