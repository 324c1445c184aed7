"""A1111's routes, asked by webuiapi and as SillyTavern, Open WebUI and LibreChat ask."""

from __future__ import annotations

import base64
import io
import json
import threading
from typing import Any

import pytest
import webuiapi
from PIL import Image

from servers import RunningServer, wait_for

ASKED = {"prompt": "1girl, red_hair", "steps": 1, "width": 128, "height": 128, "seed": 7}
INFO = {
    "prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds",
    "subseed", "all_subseeds", "subseed_strength", "width", "height", "sampler_name", "cfg_scale",
    "steps", "batch_size", "restore_faces", "face_restoration_model", "sd_model_name",
    "sd_model_hash", "sd_vae_name", "sd_vae_hash", "seed_resize_from_w", "seed_resize_from_h",
    "denoising_strength", "extra_generation_params", "index_of_first_image", "infotexts", "styles",
    "job_timestamp", "clip_skip", "is_using_inpainting_conditioning", "version",
}  # fmt: skip


@pytest.fixture
def api(server: RunningServer) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(host="127.0.0.1", port=server.port)


def posted(server: RunningServer, path: str, body: Any) -> Any:
    answer = server.ask("POST", f"/sdapi/v1/{path}", body)
    assert answer.status == 200, answer.body
    return answer.json


def test_webuiapi_draws(api) -> None:
    answer = api.txt2img(**ASKED, batch_size=2)
    assert [image.size for image in answer.images] == [(128, 128)] * 2
    assert set(answer.info) == INFO
    assert answer.info["all_seeds"] == [7, 8]
    assert "Euler" in answer.info["extra_generation_params"]["Sampler"]
    assert "Steps: 1" in answer.info["infotexts"][0]
    assert answer.image.info["parameters"] == answer.info["infotexts"][0]


def test_webuiapi_draws_from_pictures(api) -> None:
    start = Image.new("RGB", (128, 128), "navy")
    mask = Image.new("L", (128, 128), 0)
    mask.paste(255, (0, 0, 48, 128))
    answer = api.img2img(images=[start], prompt="1girl", steps=2, width=128, height=128,
                         denoising_strength=0.5, mask_image=mask, mask_blur=0)  # fmt: skip
    assert answer.image.getpixel((120, 64)) == (0, 0, 128)
    assert answer.info["denoising_strength"] == 0.5


def test_webuiapi_looks_around(api) -> None:
    assert api.util_get_model_names() == ["chibi"]
    assert api.util_get_current_model() == "chibi"
    api.util_set_model("chibi")
    api.util_wait_for_ready(check_interval=0.05)
    assert "euler" in api.util_get_sampler_names()
    assert api.get_progress()["state"]["job_count"] == 0
    assert api.interrupt() == {}
    for ask in (api.get_sd_vae, api.get_loras, api.get_upscalers, api.get_schedulers):
        assert isinstance(ask(), list)
    assert api.get_memory()["ram"]["used"] > 0


def test_a_picture_is_read(api) -> None:
    answer = api.txt2img(**ASKED)
    read = api.png_info(answer.image)
    assert "Steps: 1" in read.info


def test_what_a_picture_says_is_taken_apart(server: RunningServer) -> None:
    (text,) = posted(server, "txt2img", ASKED)["images"]
    read = posted(server, "png-info", {"image": f"data:image/png;base64,{text}"})
    assert read["parameters"]["Prompt"] == ASKED["prompt"]
    assert read["parameters"]["Seed"] == "7"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({**ASKED, "width": 130}, "multiple of 16"),
        ({**ASKED, "steps": 500}, "1 to 200"),
        ({**ASKED, "batch_size": 1000}, "1 to 10"),
        ({**ASKED, "batch_size": 5, "n_iter": 5}, "number must be 1 to 10"),
        ({**ASKED, "cfg_scale": "hot"}, "cfg_scale"),
    ],
)
def test_what_cannot_be_drawn_is_a_bad_request(server, body: Any, told: str) -> None:
    answer = server.ask("POST", "/sdapi/v1/txt2img", body)
    assert answer.status == 400
    assert told in answer.json["detail"]
    assert set(answer.json) == {"error", "detail", "body", "errors"}


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/x", "file:///etc/passwd", "/etc/hosts"])
def test_no_address_is_fetched(server, address: str) -> None:
    answer = server.ask("POST", "/sdapi/v1/img2img", {**ASKED, "init_images": [address]})
    assert answer.status == 400
    assert "base64" in answer.json["detail"] or "picture" in answer.json["detail"]


def test_sillytavern(server: RunningServer) -> None:
    """It pings options, asks for lists, posts with its own keys, and polls until all is quiet."""
    basic = {"Authorization": "Basic " + base64.b64encode(b"").decode()}
    options = server.ask("GET", "/sdapi/v1/options", headers=basic).json
    assert options["sd_model_checkpoint"] == "chibi"
    for name in ("upscalers", "latent-upscale-modes", "sd-vae", "samplers", "schedulers",
                 "sd-models"):  # fmt: skip
        assert server.ask("GET", f"/sdapi/v1/{name}", headers=basic).status == 200
    body = {
        **ASKED, "url": server.url, "auth": "secret", "negative_prompt": "",
        "sampler_name": "Euler",
        "scheduler": "Automatic", "cfg_scale": 7, "enable_hr": False, "hr_upscaler": "Latent",
        "hr_scale": 2, "hr_additional_modules": [], "denoising_strength": 0.7,
        "hr_second_pass_steps": 0, "clip_skip": 1,
        "override_settings": {"CLIP_stop_at_last_layers": 1},
        "override_settings_restore_afterwards": True, "save_images": True, "send_images": True,
        "do_not_save_grid": False, "do_not_save_samples": False, "restore_faces": False,
    }  # fmt: skip
    answer = posted(server, "txt2img", body)
    assert "secret" not in json.dumps(answer["parameters"])
    assert "secret" not in "\n".join(server.lines)
    assert Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))).size == (128, 128)
    posted(server, "options", {"sd_model_checkpoint": "chibi"})
    progress = server.ask("GET", "/sdapi/v1/progress", headers=basic).json
    assert (progress["progress"], progress["state"]["job_count"]) == (0.0, 0)


def test_open_webui(server: RunningServer) -> None:
    """It sends an empty header where no auth is set, and all options back on a change of model."""
    none = {"authorization": ""}
    options = server.ask("GET", "/sdapi/v1/options", headers=none).json
    answer = server.ask("POST", "/sdapi/v1/options", {**options, "sd_model_checkpoint": "x"}, none)
    assert answer.status == 200
    body = {"prompt": "1girl", "batch_size": 1, "width": 128, "height": 128, "steps": 1}
    answer = server.ask("POST", "/sdapi/v1/txt2img", body, none)
    assert answer.json["images"]
    assert "seed" in json.loads(answer.json["info"])
    body = {"model": "chibi", "prompt": "1girl", "n": 1, "size": "128x128",
            "response_format": "b64_json", "num_inference_steps": 1}  # fmt: skip
    (item,) = server.ask("POST", "/v1/images/generations", body, none).json["data"]
    assert item["url"] is None
    assert item["b64_json"]


def test_librechat(server: RunningServer) -> None:
    """It takes 'info' apart as text."""
    body = {"prompt": "1girl", "negative_prompt": "lowres", "cfg_scale": 4.5, "steps": 1,
            "width": 128, "height": 128}  # fmt: skip
    info = json.loads(posted(server, "txt2img", body)["info"])
    assert (info["width"], info["height"]) == (128, 128)
    assert info["infotexts"][0].startswith("1girl\nNegative prompt: lowres\nSteps: 1")


def test_an_interrupt_ends_ones_own_drawings_alone(server: RunningServer) -> None:
    other = server.submit(steps=30)
    answers: list[Any] = []
    asked = {**ASKED, "steps": 100}
    threads = [
        threading.Thread(target=lambda: answers.append(posted(server, "txt2img", asked)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: own_jobs(server) == 2, "two jobs")
    posted(server, "interrupt", {})
    for thread in threads:
        thread.join(60)
    assert [answer["images"] for answer in answers] == [[], []]
    assert server.ended(other)["state"] == "finished"


def own_jobs(server: RunningServer) -> int:
    return int(server.ask("GET", "/sdapi/v1/progress").json["state"]["job_count"])
