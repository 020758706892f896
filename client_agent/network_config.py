"""What an agent is told about its way to the coordinator: TLS, proxy, rates, hours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from client_agent.domain.hours import Hours, read_hours
from letheon.errors import BadConfig
from letheon.servicekit.route import HttpProxy, Route, TlsFiles, bypasses_proxy, read_proxy

# What systemd hands to a unit by LoadCredential= lies in a folder that only the unit sees.
CREDENTIALS = "$CREDENTIALS_DIRECTORY/"
ByteRate = Annotated[int, Field(ge=1024)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsConfig(_Table):
    """PEM files. Without this table the connection is not encrypted."""

    ca: Path | None = None
    """Authority that signed the coordinator's certificate; the system's when absent."""
    certificate: Path | None = None
    """Of this site, if the coordinator wants one."""
    key: Path | None = None
    server_name: str | None = None
    """In the coordinator's certificate, if it is not the host's name."""
    renew: bool = False
    """Have the coordinator sign the next certificate at two thirds of the life of this one."""

    @model_validator(mode="after")
    def _a_certificate_has_its_key(self) -> TlsConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: give both or neither")
        if self.renew and self.certificate is None:
            raise ValueError("renew is of use with a certificate and its key only")
        return self


class NetworkConfig(_Table):
    """The hospital's rules for the one outgoing connection."""

    proxy: str | None = None
    """HTTP proxy that is asked to CONNECT; the environment's is never used."""
    proxy_password_file: Path | None = None
    """Its first line is the password of the proxy's user."""
    no_proxy: tuple[str, ...] = ()
    """Coordinators that are reached directly: names, .suffixes, addresses, networks or *."""
    upload_bytes_per_second: ByteRate | None = None
    download_bytes_per_second: ByteRate | None = None
    upload_hours: tuple[str, ...] = ()
    """When deltas may be sent; answers to erasures always are."""
    time_zone: str | None = None
    """Of the hours, such as Europe/Berlin; the machine's when absent."""

    @field_validator("proxy")
    @classmethod
    def _proxy_can_be_used(cls, value: str | None) -> str | None:
        if value is not None:
            read_proxy(value, None)
        return value

    @field_validator("upload_hours")
    @classmethod
    def _hours_can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        read_hours(value)
        return value

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, value: str | None) -> str | None:
        if value is not None:
            _zone(value)
        return value

    @model_validator(mode="after")
    def _a_password_has_its_user(self) -> NetworkConfig:
        if self.proxy_password_file is not None:
            if self.proxy is None:
                raise ValueError("proxy_password_file is of no use without a proxy")
            read_proxy(self.proxy, "")
        return self

    def hours(self) -> Hours:
        """When deltas may be sent."""
        zone = None if self.time_zone is None else _zone(self.time_zone)
        return read_hours(self.upload_hours, zone)


def route_to(
    address: str,
    tls: TlsConfig | None,
    network: NetworkConfig,
    environ: Mapping[str, str] = os.environ,
) -> Route:
    """The way to `host:port`. Raises BadConfig if the password file cannot be read."""
    files = None
    if tls is not None:
        files = TlsFiles(
            ca=credential_path(tls.ca, environ),
            certificate=credential_path(tls.certificate, environ),
            key=credential_path(tls.key, environ),
            server_name=tls.server_name,
        )
    return Route(files, _proxy(address.rpartition(":")[0], network, environ))


def credential_path(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file, where `$CREDENTIALS_DIRECTORY/` stands for the folder that systemd made.

    Raises BadConfig if there is no such folder.
    """
    if path is None or not str(path).startswith(CREDENTIALS):
        return path
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        raise BadConfig(
            f"{path} names a credential of systemd, but CREDENTIALS_DIRECTORY is not set: start"
            " the agent by its unit, or write the path of the file"
        )
    return Path(folder) / str(path).removeprefix(CREDENTIALS)


def _proxy(host: str, network: NetworkConfig, environ: Mapping[str, str]) -> HttpProxy | None:
    if network.proxy is None or bypasses_proxy(host, network.no_proxy):
        return None
    password = None
    path = credential_path(network.proxy_password_file, environ)
    if path is not None:
        try:
            password = path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise BadConfig(
                f"network.proxy_password_file {path} cannot be read: {reason}",
                key="network.proxy_password_file",
            ) from error
    return read_proxy(network.proxy, password)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone {name!r} on this machine, such as Europe/Berlin") from None
