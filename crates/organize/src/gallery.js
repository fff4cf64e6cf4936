"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const dialog = document.getElementById("similar");

// Each thumbnail of a group is in the page once: in an element that shows it initially, or in the data.
const source = (i) => data.thumbnails[i]
  ? "data:image/jpeg;base64," + data.thumbnails[i]
  : document.querySelector(`#image-${i} img`).src;

function image(i) {
  const img = document.createElement("img");
  img.src = source(i);
  img.alt = data.names[i];
  return img;
}

function item(i, caption) {
  const li = document.createElement("li");
  const button = document.createElement("button");
  button.className = "image";
  button.dataset.image = i;
  button.title = data.names[i];
  button.append(image(i));
  li.append(button);
  if (caption) {
    const small = document.createElement("small");
    small.textContent = caption;
    li.append(small);
  }
  return li;
}

// The chosen button may be in the dialog and disappear with the last result: focus an element that stays.
function showSimilar(i, shown) {
  const name = document.createElement("span");
  name.textContent = data.names[i];
  const example = shown.cloneNode();
  example.removeAttribute("loading");
  document.getElementById("example").replaceChildren(example, name);
  document.getElementById("found").replaceChildren(
    ...data.nearest[i].map(([j, similarity]) => item(j, similarity.toFixed(2))));
  if (!dialog.open) dialog.showModal();
  dialog.querySelector(".close").focus();
  dialog.scrollTop = 0;
}

function showMore(button) {
  const items = data.hidden[button.dataset.group].map((i) => item(i));
  button.previousElementSibling.append(...items);
  button.remove();
  items[0].firstChild.focus();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.image) showSimilar(Number(button.dataset.image), button.querySelector("img"));
  else if (button?.dataset.group) showMore(button);
  else if (event.target === dialog) dialog.close();
});
