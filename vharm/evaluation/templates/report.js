document.documentElement.classList.add("js");

for (const clip of document.querySelectorAll(".clip")) {
  const viewer = clip.querySelector(".viewer");
  const slider = viewer.querySelector("input");
  const tags = { before: viewer.querySelector(".left"), after: viewer.querySelector(".right") };

  const show = (side, label) => {
    const source = [...clip.querySelectorAll("[data-label]")].find((i) => i.dataset.label === label);
    const image = viewer.querySelector("." + side);
    image.src = source.src;
    image.alt = source.alt;
    tags[side].textContent = label;
  };
  const move = () => {
    viewer.style.setProperty("--cut", slider.value + "%");
    const words = `${slider.value} % ${tags.before.textContent}, the rest ${tags.after.textContent}`;
    slider.setAttribute("aria-valuetext", words);
  };

  for (const radio of clip.querySelectorAll("[data-side]")) {
    radio.addEventListener("change", () => { show(radio.dataset.side, radio.value); move(); });
    if (radio.checked) show(radio.dataset.side, radio.value);
  }
  slider.addEventListener("input", move);
  move();
}

const theme = document.getElementById("theme");
const dark = () => {
  const set = document.documentElement.dataset.theme;
  return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const name = () => { theme.textContent = dark() ? "Light" : "Dark"; };
theme.hidden = false;
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  name();
});
name();
