//! A server of static files on loopback, with good and bad manners.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

/// How it answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// With the file.
    Plain,
    /// With status 503 every third time.
    Busy,
    /// With status 503.
    Unavailable,
    /// With a redirect to where the file is.
    Redirects,
    /// Without an end.
    Endless,
    /// With status 404.
    Empty,
    /// Not at all.
    Silent,
    /// With what is no HTTP.
    Babbling,
    /// By hanging up.
    HangsUp,
}

/// Ends the server when it goes.
pub struct Guard {
    asked: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    address: std::net::SocketAddr,
}

impl Guard {
    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the one that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Serves a folder; gives its address.
pub fn serve(folder: &Path, manner: Manner) -> (String, Guard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let (folder, over, count) = (folder.to_owned(), ended.clone(), asked.clone());
    thread::spawn(move || {
        for stream in listener.incoming() {
            if over.load(Ordering::SeqCst) {
                return;
            }
            let (folder, asked) = (folder.clone(), count.clone());
            // A reader that goes away is no concern of ours.
            thread::spawn(move || answer(stream.unwrap(), &folder, manner, &asked).ok());
        }
    });
    (format!("http://{address}/"), Guard { asked, ended, address })
}

fn answer(mut stream: TcpStream, folder: &Path, manner: Manner, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        let number = asked.fetch_add(1, Ordering::SeqCst);
        let content = std::fs::read(folder.join(path.trim_start_matches("elsewhere/")));
        let manner =
            if manner == Manner::Busy && number.is_multiple_of(3) { Manner::Unavailable } else { manner };
        match (manner, content) {
            (Manner::Unavailable, _) => {
                stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")?;
            }
            (Manner::Redirects, _) if !path.starts_with("elsewhere/") => {
                let head =
                    format!("HTTP/1.1 302 Found\r\nLocation: /elsewhere/{path}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(head.as_bytes())?;
            }
            (Manner::Silent, _) => thread::sleep(std::time::Duration::from_secs(3_600)),
            (Manner::Babbling, _) => return stream.write_all(b"220 mail.example.com ESMTP\r\n\r\n"),
            (Manner::HangsUp, _) => return Ok(()),
            (Manner::Endless, _) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                loop {
                    stream.write_all(&[b'x'; 4096])?;
                }
            }
            (Manner::Empty, _) | (_, Err(_)) => {
                stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            }
            (_, Ok(content)) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len());
                stream.write_all(&[head.as_bytes(), &content].concat())?;
            }
        }
    }
}
