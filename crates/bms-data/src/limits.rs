//! Limits of data sets, in one place. A picture's own limits are [`bms_wire::limits`]'.

/// Samples in one data set.
pub const SAMPLES_MAX: usize = 5_000_000;
/// Bytes of all decoded pixels, or of all values of a table, in one data set.
pub const DATA_BYTES_MAX: u64 = 16 << 30;
/// Classes in one data set.
pub const LABELS_MAX: usize = 10_000;
/// Columns of a table.
pub const COLUMNS_MAX: usize = 10_000;
/// Bytes of one encoded picture.
pub const PICTURE_FILE_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a label or of a sample's name; each is a file name once saved.
pub const NAME_BYTES_MAX: usize = 200;
/// Copies of each sample one augmentation makes.
pub const COPIES_MAX: u32 = 10_000;
/// Steps of an augmentation plan.
pub const PLAN_STEPS_MAX: usize = 64;

const _: () = assert!(NAME_BYTES_MAX + ".png".len() <= 255, "a name is a file name on every file system");
const _: () = assert!(
    PICTURE_FILE_BYTES_MAX <= bms_wire::limits::IMAGE_PIXELS_MAX * 3,
    "an encoded picture is not larger than the largest decoded one"
);
