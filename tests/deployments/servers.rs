//! Server programs: started on free ports, ended on drop.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::folder::Folder;
use crate::load::limit;
use crate::program::install_packages;

/// The folder of the applications.
pub const APPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deployments/apps");
/// The virtual environment that `.ci/packages` fills.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/packages/python/bin");
const NODE_MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/packages/node/node_modules");

/// A running server program.
pub struct ServerProgram {
    name: String,
    child: Child,
    folder: Folder,
    /// Folders that it reads.
    kept: Vec<Folder>,
    /// The addresses that it listens on.
    pub addresses: Vec<SocketAddr>,
}

impl ServerProgram {
    /// Starts what `command` returns for this number of free addresses and a folder of its own, and waits until it
    /// accepts connections on all of them.
    #[track_caller]
    pub fn start(
        name: &str,
        ports: usize,
        command: impl Fn(&[SocketAddr], &Path) -> Command,
    ) -> ServerProgram {
        // Another process can take a free port before the program binds it; then try others.
        for _ in 0..5 {
            let folder = Folder::new(name);
            let addresses = free_addresses(ports);
            let output = File::create(folder.path.join("output")).unwrap();
            let mut command = command(&addresses, &folder.path);
            let command = command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
            let child = command.spawn().unwrap_or_else(|e| {
                panic!("{name} cannot be run ({e}); `make setup` and `make proof` install it")
            });
            let mut server =
                ServerProgram { name: name.to_owned(), child, folder, kept: Vec::new(), addresses };
            if server.wait_until_listening() {
                return server;
            }
            eprintln!("{name} does not start:\n{}", server.output());
        }
        panic!("{name} does not start");
    }

    /// Keeps a folder until the server ends.
    fn keep(mut self, folder: Folder) -> ServerProgram {
        self.kept.push(folder);
        self
    }

    fn wait_until_listening(&mut self) -> bool {
        let deadline = Instant::now() + limit();
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if self.addresses.iter().all(|address| TcpStream::connect(address).is_ok()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Its first address.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path.join(name)
    }

    fn output(&self) -> String {
        let text = |name| std::fs::read_to_string(self.file(name)).unwrap_or_default();
        let text = text("output") + &text("error.log");
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for ServerProgram {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- {} wrote:\n{}", self.name, self.output());
        }
        // Servers with worker processes end them on SIGTERM.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn free_addresses(number: usize) -> Vec<SocketAddr> {
    let listeners: Vec<TcpListener> =
        (0..number).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

/// A program that the system has, or one of the folders that only root's PATH contains.
pub fn system_program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

/// gunicorn with this WSGI application, and one worker, so that the application can count.
pub fn gunicorn(application: &str, keep_alive: u32) -> ServerProgram {
    install_packages();
    ServerProgram::start("gunicorn", 1, |addresses, folder| {
        gunicorn_command(application, &addresses[0].to_string(), keep_alive, folder)
    })
}

/// The same on a Unix socket, with the default keep-alive.
pub fn gunicorn_on(socket: &Path, application: &str) -> ServerProgram {
    install_packages();
    let bind = format!("unix:{}", socket.display());
    ServerProgram::start("gunicorn", 0, |_, folder| gunicorn_command(application, &bind, 2, folder))
}

fn gunicorn_command(application: &str, bind: &str, keep_alive: u32, folder: &Path) -> Command {
    let mut command = Command::new(format!("{PYTHON}/gunicorn"));
    command.args(["--workers", "1", "--worker-class", "gthread", "--threads", "8", "--log-level", "warning"]);
    command.args(["--no-control-socket", "--keep-alive", &keep_alive.to_string(), "--chdir", APPS]);
    command.args(["--bind", bind]).arg("--worker-tmp-dir").arg(folder).arg(application);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// uvicorn with this ASGI application.
pub fn uvicorn(application: &str, keep_alive: u32) -> ServerProgram {
    install_packages();
    ServerProgram::start("uvicorn", 1, |addresses, _| {
        let mut command = Command::new(format!("{PYTHON}/uvicorn"));
        command.args(["--log-level", "warning", "--app-dir", APPS, application]);
        command.args(["--host", "127.0.0.1", "--port", &addresses[0].port().to_string()]);
        command.args(["--timeout-keep-alive", &keep_alive.to_string()]);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    })
}

/// Node with this script, which gets the port and these arguments. It uses no package.
pub fn node(script: &str, arguments: &[&str]) -> ServerProgram {
    ServerProgram::start("node", 1, |addresses, _| {
        let mut command = Command::new("node");
        command.arg(format!("{APPS}/{script}")).arg(addresses[0].port().to_string()).args(arguments);
        command
    })
}

/// Like [`node`], with the packages of npm.
pub fn node_with_packages(script: &str) -> ServerProgram {
    install_packages();
    ServerProgram::start("node", 1, |addresses, _| {
        let mut command = Command::new("node");
        command.arg(format!("{APPS}/{script}")).arg(addresses[0].port().to_string());
        command.env("NODE_PATH", NODE_MODULES);
        command
    })
}

/// Apache with PHP as a module and this script for every path. Its idle limit is `keep_alive` seconds, which it
/// announces. `access.log` in its folder has a line for each request.
pub fn apache_php(script: &str, keep_alive: u32) -> ServerProgram {
    // Started by root, its workers run as www-data, which may not be able to read the folder of the sources.
    let documents = Folder::below(&std::env::temp_dir(), script);
    let page = documents.path.join(script);
    std::fs::copy(Path::new(APPS).join(script), &page).unwrap();
    let server = ServerProgram::start("apache2", 1, |addresses, folder| {
        let modules = Path::new("/usr/lib/apache2/modules");
        let php = std::fs::read_dir(modules).into_iter().flatten().filter_map(Result::ok);
        let php = php.map(|file| file.path()).find(|path| path.display().to_string().contains("/libphp"));
        let php = php.expect("Apache has no module for PHP; `make proof` installs it");
        let (folder, listen) = (folder.display(), addresses[0]);
        let text = format!(
            "ServerRoot \"{folder}\"\nDefaultRuntimeDir \"{folder}\"\nPidFile pid\nServerName localhost\nListen {listen}\n\
             ErrorLog error.log\nLogFormat \"%r %>s\" short\nCustomLog access.log short\n\
             LoadModule mpm_prefork_module {modules}/mod_mpm_prefork.so\n\
             LoadModule authz_core_module {modules}/mod_authz_core.so\n\
             LoadModule alias_module {modules}/mod_alias.so\nLoadModule php_module {php}\n\
             User www-data\nGroup www-data\nStartServers 32\nServerLimit 512\nMaxRequestWorkers 512\n\
             KeepAlive On\nKeepAliveTimeout {keep_alive}\nMaxKeepAliveRequests 0\nAliasMatch \".*\" \"{page}\"\n\
             <Directory \"{documents}\">\nSetHandler application/x-httpd-php\nRequire all granted\n</Directory>\n",
            modules = modules.display(),
            php = php.display(),
            page = page.display(),
            documents = documents.path.display(),
        );
        std::fs::write(Path::new(&folder.to_string()).join("apache.conf"), text).unwrap();
        let mut command = Command::new(system_program("apache2"));
        command.args(["-DFOREGROUND", "-f"]).arg(format!("{folder}/apache.conf"));
        command
    });
    server.keep(documents)
}

/// An application that responds with the forwarded fields it received, one per line.
pub fn echo() -> ServerProgram {
    node("echo.mjs", &[])
}
