# make install | demo | test | lint        each sets everything up in .venv on first use
PYTHON ?= python3
BIN := .venv/bin
# The folder of EOPatches that the demo works on; simulated ones when empty.
DATA ?=
OUT ?= out/demo

.ONESHELL:
.SHELLFLAGS := -euc
.PHONY: install demo test lint

install: .venv/installed

.venv/installed: setup.cfg pyproject.toml constraints.txt serving/client/setup.cfg
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[geo,serving,train,baselines,onnx,dev]' -e ./serving/client
	touch $@

# The whole path by the commands that a user would type: scenes, a first map with the preset, training, score, SavedModel,
# map, map over gRPC.
demo: install
	@run() { printf '\n$$ %s\n' "$$*"; "$$@"; }
	python=$(BIN)/python; data="$(DATA)"; out="$(OUT)"
	if [ -z "$$data" ]; then
	    data=$$out/scenes
	    run $(BIN)/spinet synthesize $$data --count 6 --size 96 --dates 16 --seed 1 --overwrite
	    run $(BIN)/spinet predict $$data/eopatch-006 --model tiny-simulated -o $$out/preset.tif \
	        --quicklook $$out/preset.png --overwrite
	fi
	run $$python -m training.train --config training/configs/demo.yaml --data "$$data" --output $$out/run --overwrite
	run $$python -m training.evaluate --model $$out/run/best.keras --data "$$data" --output $$out/evaluation --overwrite
	run $$python -m export.saved_model $$out/run/best.keras $$out/saved_model --scores $$out/evaluation/scores.md --overwrite
	scene=$$($$python -c 'import sys; from spinet_tf.data import find_scenes; print(find_scenes(sys.argv[1])[-1])' "$$data")
	run $(BIN)/spinet predict "$$scene" --model $$out/run/best.keras -o $$out/map.tif \
	    --uncertainty --polygons $$out/fields.gpkg --quicklook $$out/map.png --stac-item $$out/map.json --overwrite
	run $(BIN)/spinet view $$out/map.tif "$$scene" --overwrite
	printf '\n$$ %s\n' "$$python -m serving.server --model_base_path $$out/saved_model --port 0 &"
	$$python -m serving.server --model_base_path $$out/saved_model --port 0 > $$out/server.log 2>&1 & server=$$!
	trap 'kill $$server 2>/dev/null; wait $$server' EXIT
	until grep -q '^serving' $$out/server.log; do kill -0 $$server || { cat $$out/server.log; exit 1; }; sleep 0.2; done
	cat $$out/server.log
	address=$$(sed -n 's/^serving .* on //p' $$out/server.log)
	run $(BIN)/spinet predict "$$scene" --model grpc://$$address/spinet -o $$out/map_served.tif --overwrite
	printf '\n'; cat $$out/evaluation/scores.md
	printf '\nmap        %s\npage       %s\npicture    %s\npolygons   %s\nserved map %s\nreport     %s\nmodel      %s\nSavedModel %s\n' \
	    $$out/map.tif $$out/map.html $$out/map.png $$out/fields.gpkg $$out/map_served.tif \
	    $$out/evaluation/report.html $$out/run/best.keras $$out/saved_model

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
