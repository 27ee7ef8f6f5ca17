//! A store whose every operation passes a gate, which may hold it up or let it fail.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done.
    Done,
    /// It is not done, and fails.
    Refused,
    /// It is done, but whoever asked never learns.
    Unheard,
}

#[async_trait]
pub(crate) trait Gate: fmt::Debug + Send + Sync + 'static {
    async fn pass(&self, writes: bool) -> (Fate, object_store::Error);
}

pub(crate) fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic { store: "test", source: source.into() }
}

#[derive(Debug)]
pub(crate) struct Gated {
    pub(crate) inner: Arc<dyn ObjectStore>,
    pub(crate) gate: Arc<dyn Gate>,
}

impl fmt::Display for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gated")
    }
}

async fn through<T>(gate: &dyn Gate, writes: bool, work: impl Future<Output = Result<T>>) -> Result<T> {
    match gate.pass(writes).await {
        (Fate::Done, _) => work.await,
        (Fate::Refused, error) => Err(error),
        (Fate::Unheard, error) => {
            work.await?;
            Err(error)
        }
    }
}

#[async_trait]
impl ObjectStore for Gated {
    async fn put_opts(&self, path: &Path, bytes: PutPayload, options: PutOptions) -> Result<PutResult> {
        through(&*self.gate, true, self.inner.put_opts(path, bytes, options)).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = through(&*self.gate, true, self.inner.put_multipart_opts(path, options)).await?;
        Ok(Box::new(GatedUpload { upload, gate: Arc::clone(&self.gate) }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        through(&*self.gate, false, self.inner.get_opts(path, options)).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        through(&*self.gate, false, self.inner.get_ranges(path, ranges)).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, gate) = (Arc::clone(&self.inner), Arc::clone(&self.gate));
        paths
            .and_then(move |path| {
                let (inner, gate) = (Arc::clone(&inner), Arc::clone(&gate));
                async move {
                    let one = futures_util::stream::once(std::future::ready(Ok(path.clone()))).boxed();
                    through(&*gate, true, async { inner.delete_stream(one).try_collect::<Vec<_>>().await })
                        .await?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, below: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, gate, below) = (Arc::clone(&self.inner), Arc::clone(&self.gate), below.cloned());
        let listed = async move {
            let all =
                through(&*gate, false, async { inner.list(below.as_ref()).try_collect::<Vec<_>>().await });
            Ok::<_, object_store::Error>(futures_util::stream::iter(all.await?.into_iter().map(Ok)))
        };
        futures_util::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, below: Option<&Path>) -> Result<ListResult> {
        through(&*self.gate, false, self.inner.list_with_delimiter(below)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        through(&*self.gate, true, self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct GatedUpload {
    upload: Box<dyn MultipartUpload>,
    gate: Arc<dyn Gate>,
}

#[async_trait]
impl MultipartUpload for GatedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (gate, part) = (Arc::clone(&self.gate), self.upload.put_part(data));
        Box::pin(async move { through(&*gate, true, part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let upload = &mut self.upload;
        through(&*self.gate, true, async { upload.complete().await }).await
    }

    async fn abort(&mut self) -> Result<()> {
        let upload = &mut self.upload;
        through(&*self.gate, true, async { upload.abort().await }).await
    }
}
