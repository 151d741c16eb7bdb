"""Which versions of which models are served: configuration, version policies, labels, and the folders watched.

A new folder is loaded and warmed while the old version serves; it takes over in one step, and the old one is unloaded
when its last request is answered. A version that cannot be loaded is reported by GetModelStatus and not tried again
until its folder has gone; what served before it goes on serving.

References:
    https://github.com/tensorflow/serving/blob/master/tensorflow_serving/model_servers/server_core.cc
    https://github.com/tensorflow/serving/blob/master/tensorflow_serving/core/availability_preserving_policy.h
"""

import gc
import logging
import threading
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.status import code, failure, reason
from serving.version import Host, State, Version

PLATFORM = "tensorflow"

logger = logging.getLogger(__name__)


class Models:
    """The models of a server.

    Args:
        host: what all their versions share.
        labels_of_unavailable: whether a label not in use may be given to a version that is not available (yet).

    Example:
        models = Models(host)
        models.configure(single_model("spinet", "models/spinet"))
        models.watch(seconds=1)
    """

    def __init__(self, host: Host, labels_of_unavailable: bool = False):
        self._host = host
        self._labels_of_unavailable = labels_of_unavailable
        # Held while versions are loaded; requests and GetModelStatus do not take it.
        self._config_lock = threading.Lock()
        self._configs: dict[str, ModelConfig] = {}
        # Replaced as a whole, so that those who read it need no lock.
        self._labels: dict[str, dict[str, int]] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    # === What is asked of it ===

    def acquire(self, spec: ModelSpec) -> Version:
        """Return the version that `spec` asks for, acquired.

        Raises:
            tf.errors.InvalidArgumentError: if `spec` has no name, or a label that nothing has.
            tf.errors.NotFoundError: if it is not available.
        """
        if not spec.name:
            raise failure(tf.errors.InvalidArgumentError, "ModelSpec has no name specified.")
        number = self._number(spec)
        while True:
            version = self._available(spec.name, number)
            if version is None:
                asked = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
                raise failure(tf.errors.NotFoundError, f"Servable not found for request: {asked}")
            # Or it was retired in between, and another is the latest.
            if version.acquire():
                return version

    def _number(self, spec: ModelSpec) -> int | None:
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            try:
                return self._labels[spec.name][spec.version_label]
            except KeyError:
                raise failure(
                    tf.errors.InvalidArgumentError, f"Unrecognized servable version label: {spec.version_label}"
                ) from None
        return spec.version.value if choice == "version" else None

    def _available(self, name: str, number: int | None) -> Version | None:
        numbers = self.available(name)
        if number is None and numbers:
            return self._versions[name][numbers[-1]]
        return self._versions[name][number] if number in numbers else None

    def status(self, spec: ModelSpec) -> list[ModelVersionStatus]:
        """The state of one version, or of all that there have been, the greatest first.

        Raises:
            tf.errors.NotFoundError: if there is none.
        """
        versions = dict(self._versions.get(spec.name, {}))
        if spec.HasField("version"):
            number = spec.version.value
            if number not in versions:
                raise failure(tf.errors.NotFoundError, f"Could not find version {number} of model {spec.name}")
            return [versions[number].status()]
        if not versions:
            raise failure(tf.errors.NotFoundError, f"Could not find any versions of model {spec.name}")
        return [versions[number].status() for number in sorted(versions, reverse=True)]

    def names(self) -> list[str]:
        """The models configured."""
        return list(self._configs)

    def available(self, name: str) -> list[int]:
        """The versions of a model that are available, in order."""
        versions = dict(self._versions.get(name, {}))
        return sorted(number for number, version in versions.items() if version.state == State.AVAILABLE)

    # === What changes it ===

    def configure(self, config: ModelServerConfig) -> None:
        """Serve what `config` lists, instead of what was served; return when every new model is available.

        Raises:
            tf.errors.InvalidArgumentError: if the configuration is wrong; then nothing has changed.
            tf.errors.FailedPreconditionError: for a label of a version that is not available; the same.
            tf.errors.UnknownError: if a new model has no version that can be loaded.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise failure(
                tf.errors.InvalidArgumentError,
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported",
            )
        configs = _by_name(config.model_config_list.config)
        with self._config_lock:
            labels = {name: self._checked_labels(config) for name, config in configs.items()}
            new = set(configs) - set(self._configs)
            self._configs, self._labels = configs, labels
            self._update()
            missing = sorted(name for name in new if not self.available(name))
            if missing:
                models = ", ".join(f"{{name: {name}{self._problems(name)}}}" for name in missing)
                raise failure(tf.errors.UnknownError, f"{len(missing)} model(s) did not become available: {models}")

    def _checked_labels(self, config: ModelConfig) -> dict[str, int]:
        labels = dict(config.version_labels)
        used = self._labels.get(config.name, {})
        available = self.available(config.name)
        for label, number in labels.items():
            unused = used.get(label, number) == number
            if number not in available and not (unused and self._labels_of_unavailable):
                raise failure(
                    tf.errors.FailedPreconditionError,
                    f"Request to assign label to version {number} of model {config.name}, which is not currently "
                    "available for inference",
                )
        return labels

    def _problems(self, name: str) -> str:
        if not Path(self._configs[name].base_path).is_dir():
            return f", no folder {self._configs[name].base_path}"
        versions = self._versions.get(name, {})
        if not versions:
            return f", no numbered versions in {self._configs[name].base_path}"
        errors = {number: version.error for number, version in versions.items() if version.error is not None}
        return "".join(
            f", version: {number} due to error: {code(error).name}: {reason(error)}" for number, error in errors.items()
        )

    def _update(self) -> None:
        """Load and retire versions until they are what the configuration and the folders want."""
        for name in set(self._versions) - set(self._configs):
            for version in self._versions[name].values():
                version.aspired = False
                version.retire()
        for config in self._configs.values():
            folders = version_folders(Path(config.base_path))
            # A folder that cannot be read for a moment is no reason to stop.
            if folders is not None:
                self._update_model(config, folders)

    def _update_model(self, config: ModelConfig, folders: dict[int, Path]) -> None:
        versions = self._versions.setdefault(config.name, {})
        aspired = _aspired(config, folders)
        for number, version in versions.items():
            if number not in aspired:
                version.aspired = False
        for number in sorted(aspired, reverse=True):
            known = versions.get(number)
            if known is None or (known.state == State.END and not known.aspired):
                self._load(config.name, number, folders[number])
        ready = {number for number in aspired if versions[number].state == State.AVAILABLE}
        for number, version in list(versions.items()):
            # The old one stays until another can take its place.
            if number not in aspired and (ready or not aspired):
                version.retire()

    def _load(self, name: str, number: int, folder: Path) -> None:
        version = Version(name, number, folder, self._host)
        self._versions[name][number] = version
        version.load()
        if version.error is None:
            logger.info("Successfully loaded servable version {name: %s version: %d}", name, number)
        else:
            logger.error(
                "Loading servable: {name: %s version: %d} failed: %s: %s",
                name,
                number,
                code(version.error).name,
                reason(version.error),
            )

    def watch(self, seconds: float) -> None:
        """Look at the folders every so many seconds, in a thread, until `close`."""

        def look() -> None:
            ended = 0
            while not self._closed.wait(seconds):
                try:
                    with self._config_lock:
                        self._update()
                # Whatever it is: the next look may succeed.
                except Exception:
                    logger.exception("Looking for versions failed")
                # A graph is full of cycles: left to itself, Python would keep the graphs of a dozen versions.
                if ended != self._ended():
                    ended = self._ended()
                    gc.collect()

        self._watcher = threading.Thread(target=look, name="watcher", daemon=True)
        self._watcher.start()

    def _ended(self) -> int:
        versions = [version for versions in list(self._versions.values()) for version in list(versions.values())]
        return sum(version.state == State.END for version in versions)

    def close(self) -> None:
        """Stop watching, and unload every version as soon as its requests are answered."""
        self._closed.set()
        if self._watcher is not None:
            self._watcher.join()
        with self._config_lock:
            self._configs = {}
            self._update()


def version_folders(base_path: Path) -> dict[int, Path] | None:
    """The folders of a model's versions by number; None if its folder cannot be read."""
    try:
        folders = [path for path in base_path.iterdir() if path.is_dir()]
    except OSError:
        return None
    return {int(path.name): path for path in folders if path.name.isascii() and path.name.isdecimal()}


def _aspired(config: ModelConfig, folders: dict[int, Path]) -> set[int]:
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return set(folders)
    if choice == "specific":
        return set(policy.specific.versions) & set(folders)
    return set(sorted(folders)[-(policy.latest.num_versions or 1) :])


def _by_name(configs: Iterable[ModelConfig]) -> dict[str, ModelConfig]:
    by_name: dict[str, ModelConfig] = {}
    for config in configs:
        if config.name in by_name:
            raise failure(
                tf.errors.InvalidArgumentError, f"Illegal to list model {config.name} multiple times in config list"
            )
        if not config.name or not Path(config.base_path).is_absolute():
            raise failure(
                tf.errors.InvalidArgumentError,
                f"Expected model {config.name} to have a name and an absolute path; got base_path()={config.base_path}",
            )
        if config.model_platform != PLATFORM:
            raise failure(
                tf.errors.InvalidArgumentError,
                f"Model {config.name} requests unsupported platform {config.model_platform!r}; expected {PLATFORM!r}",
            )
        by_name[config.name] = config
    return by_name
