//! A small HTTP server on 127.0.0.1 whose answers a test scripts.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// One request as far as the tests look at it.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub range: Option<u64>,
    pub if_range: Option<String>,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: &'static str,
    pub headers: Vec<String>,
    pub body: Vec<u8>,
    /// What `Content-Length` announces, if not the length of the body.
    pub announced: Option<usize>,
}

impl Reply {
    pub fn new(status: &'static str, body: &[u8]) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.to_vec(),
            announced: None,
        }
    }

    pub fn header(mut self, header: impl Into<String>) -> Self {
        self.headers.push(header.into());
        self
    }

    /// Sends only the first `count` bytes of the body, then closes the connection.
    pub fn cut(mut self, count: usize) -> Self {
        self.announced = Some(self.body.len());
        self.body.truncate(count);
        self
    }
}

/// Answers as a server does that honours ranges.
pub fn serve_file(request: &Request, file: &[u8]) -> Reply {
    let total = file.len();
    match request.range.map(|start| start as usize) {
        Some(start) if start >= total => Reply::new("416 Range Not Satisfiable", b"")
            .header(format!("Content-Range: bytes */{total}")),
        Some(start) => Reply::new("206 Partial Content", &file[start..]).header(format!(
            "Content-Range: bytes {start}-{}/{total}",
            total - 1
        )),
        None => Reply::new("200 OK", file),
    }
}

/// The server; it answers one request per connection until the test process ends.
pub struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` gets the number of the request, from 0, and the request.
    pub fn start(answer: impl Fn(usize, &Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(request) = read(&stream) else {
                    continue;
                };
                let mut seen = seen.lock().unwrap();
                seen.push(request.clone());
                let reply = answer(seen.len() - 1, &request);
                drop(seen);
                // the client may have gone away: not the server's trouble
                let _ = write(stream, &reply);
            }
        });
        Self { address, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut request = Request {
        path,
        range: None,
        if_range: None,
    };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                request.range = value
                    .trim()
                    .strip_prefix("bytes=")?
                    .strip_suffix('-')?
                    .parse()
                    .ok()
            }
            "if-range" => request.if_range = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    Some(request)
}

fn write(mut stream: TcpStream, reply: &Reply) -> std::io::Result<()> {
    let length = reply.announced.unwrap_or(reply.body.len());
    write!(
        stream,
        "HTTP/1.1 {}\r\nContent-Length: {length}\r\nConnection: close\r\n",
        reply.status
    )?;
    for header in &reply.headers {
        write!(stream, "{header}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(&reply.body)
}
