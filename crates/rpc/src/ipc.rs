//! JSON-RPC over a Unix socket that only the node's own user can open.
//!
//! As in geth, requests follow one another on the stream with or without white space between them, and answers and
//! notifications end with a newline. Each connection is carried over the WebSocket server inside the process, so that
//! subscriptions, batches and limits are the same there and here.

mod frames;

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream as BlockingUnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use jsonrpsee::types::{ErrorCode, ErrorObjectOwned, Id, error::reject_too_big_request};
use soketto::handshake::{Client, ServerResponse};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    net::{UnixListener, UnixStream},
    sync::Mutex,
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use crate::{RpcError, RpcLimits, connection::Connection, http::error_response};
use frames::{Broken, Frames};

/// Bytes between the Unix socket and the WebSocket server that neither side has taken.
pub(crate) const PIPE_BYTES: usize = 64 * 1024;
/// How many bytes are read from a client at once.
const READ_BYTES: usize = 16 * 1024;

/// A socket that is listened on. Its file goes when this does.
#[derive(Debug)]
pub(crate) struct IpcSocket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// Device and inode, which tell our file from one that another process has put there since.
    identity: (u64, u64),
}

impl IpcSocket {
    /// Makes the socket. What a node left there that is no longer running is replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, RpcError> {
        Self::bind_io(path).map_err(|source| RpcError::Ipc { path: path.to_owned(), source })
    }

    fn bind_io(path: &Path) -> io::Result<Self> {
        check_free(path)?;
        // Made in a directory that nobody else can enter, so that there is no moment before its permissions are set.
        let folder = path.with_extension(format!("{}.new", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let bound = bind_inside(&folder, path);
        fs::remove_dir_all(&folder)?;
        let listener = bound?;
        let metadata = fs::metadata(path)?;
        Ok(Self { listener, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }
}

impl Drop for IpcSocket {
    fn drop(&mut self) {
        let is_ours = fs::metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if is_ours {
            // If it stays, the next node finds that nobody answers there.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the socket in `folder` and moves it to `path`.
fn bind_inside(folder: &Path, path: &Path) -> io::Result<UnixListener> {
    let inside = folder.join("s");
    let listener = UnixListener::bind(&inside)?;
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o600))?;
    fs::rename(&inside, path)?;
    Ok(listener)
}

/// An error unless there is nothing at this path, or a socket that nobody listens on.
fn check_free(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is no socket",
        ));
    }
    match BlockingUnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
    }
}

/// Carries messages between a client and the WebSocket server behind `pipe`, until one of them is gone.
pub(crate) async fn carry(
    client: Connection<UnixStream>,
    pipe: DuplexStream,
    limits: Arc<RpcLimits>,
) {
    let mut handshake = Client::new(pipe.compat(), "localhost", "/");
    match handshake.handshake().await {
        Ok(ServerResponse::Accepted { .. }) => {}
        other => {
            tracing::debug!(?other, "an IPC connection could not be carried");
            return;
        }
    }
    let mut builder = handshake.into_builder();
    builder.set_max_message_size(limits.response_bytes_max as usize);
    builder.set_max_frame_size(limits.response_bytes_max as usize);
    let (to_server, from_server) = builder.finish();
    let (read, write) = tokio::io::split(client);
    let answers = Answers(Arc::new(Mutex::new(write)));
    let mut requests = tokio::spawn(carry_requests(
        read,
        to_server,
        answers.clone(),
        limits.request_bytes_max as usize,
    ));
    let mut carried = tokio::spawn(carry_answers(from_server, answers));
    // A client may shut down its sending side and still wait for answers, for as long as any client may be slow.
    let is_ended = tokio::select! {
        _ = &mut requests => false,
        _ = &mut carried => true,
    };
    if !is_ended {
        let _ = tokio::time::timeout(limits.write_stalled_max, &mut carried).await;
    }
    requests.abort();
    carried.abort();
}

/// Reads requests until the client ends or sends something else.
async fn carry_requests(
    mut client: ReadHalf<Connection<UnixStream>>,
    mut server: soketto::Sender<Compat<DuplexStream>>,
    answers: Answers,
    bytes_max: usize,
) {
    let mut frames = Frames::new(bytes_max);
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(count @ 1..) = client.read(&mut buffer).await {
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let error = match frames.take(&mut rest) {
                Ok(Some(frame)) => {
                    if server.send_text(frame).await.is_err() || server.flush().await.is_err() {
                        return;
                    }
                    continue;
                }
                Ok(None) => continue,
                Err(Broken::NoJson) => ErrorCode::ParseError.into(),
                Err(Broken::TooLarge) => too_large(bytes_max),
            };
            // Where the next request starts is not known any more.
            let _ = answers.write(error_response(Id::Null, error).into_bytes()).await;
            return;
        }
    }
}

/// Writes answers and notifications until one of both sides is gone.
async fn carry_answers(mut server: soketto::Receiver<Compat<DuplexStream>>, answers: Answers) {
    let mut message = Vec::new();
    while server.receive_data(&mut message).await.is_ok() {
        if answers.write(std::mem::take(&mut message)).await.is_err() {
            return;
        }
    }
}

/// Where a client's answers go, each whole and on a line of its own.
#[derive(Clone)]
struct Answers(Arc<Mutex<WriteHalf<Connection<UnixStream>>>>);

impl Answers {
    async fn write(&self, mut answer: Vec<u8>) -> io::Result<()> {
        answer.push(b'\n');
        let mut client = self.0.lock().await;
        client.write_all(&answer).await?;
        client.flush().await
    }
}

fn too_large(request_bytes_max: usize) -> ErrorObjectOwned {
    reject_too_big_request(u32::try_from(request_bytes_max).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("heddle-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder.join("heddle.ipc")
    }

    #[tokio::test]
    async fn only_the_owner_can_open_the_socket_and_it_goes_with_the_server() {
        let path = place("owner");
        let socket = IpcSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing else is left"
        );
        let taken = IpcSocket::bind(&path).unwrap_err().to_string();
        assert!(taken.contains("another process"), "{taken}");
        drop(socket);
        assert!(!path.exists());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_replaced_and_a_file_is_not() {
        let path = place("stale");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the file of a socket outlives its process");
        drop(IpcSocket::bind(&path).unwrap());
        fs::write(&path, "somebody's").unwrap();
        let refused = IpcSocket::bind(&path).unwrap_err().to_string();
        assert!(refused.contains("no socket"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
