"use strict";
// Sortable tables, and the viewer: three planes of a case with overlays. Slices are counted in voxels of the embedded volume inside,
// and in voxels of the scan where people read them.
(() => {
  const AXES = ["left-right", "back-front", "foot-head"];
  const OVERLAYS = ["truth", "mask", "doubt"];
  const element = (id) => document.getElementById(id);

  function sort(table, column, descending) {
    const value = (row) => row.cells[column].dataset.number ?? row.cells[column].textContent;
    const order = (a, b) => (isNaN(a) || isNaN(b) ? String(a).localeCompare(String(b), undefined, { numeric: true }) : a - b);
    const rows = [...table.tBodies[0].rows].sort((a, b) => (descending ? -1 : 1) * order(value(a), value(b)));
    table.tBodies[0].append(...rows);
    [...table.tHead.rows[0].cells].forEach((head, number) => {
      head.ariaSort = number !== column ? "none" : descending ? "descending" : "ascending";
    });
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => sort(table, column, head.ariaSort === "ascending"));
    });
  }

  const { cases, legend } = JSON.parse(element("volumes").textContent);
  if (!cases.length) return;
  const viewer = new niivue.Niivue({
    backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.45], crosshairWidth: 0.15, multiplanarShowRender: 0, multiplanarPadPixels: 4,
    dragAndDropEnabled: false, isColorbar: false, isNearestInterpolation: true, loadingText: "", logLevel: "error",
    isOrientationTextVisible: true, fontSizeScaling: 0.5, multiplanarEqualSize: false,
  });
  let current = null; // the case in the viewer
  let shown = []; // its overlays, in the order of the viewer's volumes after the scan

  const bytes = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  function colours(kind) {
    const [R, G, B] = [0, 1, 2].map((part) => [0, ...legend.map((entry) => bytes(entry[kind])[part])]);
    return { R, G, B, A: [0, ...legend.map(() => 255)], labels: ["", ...legend.map((entry) => entry.name)] };
  }
  const opacity = (kind) => (element(`show-${kind}`).checked ? Number(element(`opacity-${kind}`).value) : 0);

  async function show(number) {
    current = cases[number];
    for (const button of document.querySelectorAll("button.case")) button.ariaPressed = String(Number(button.dataset.case) === number);
    element("trouble").hidden = true;
    while (viewer.volumes.length) viewer.removeVolumeByIndex(viewer.volumes.length - 1);
    shown = OVERLAYS.filter((kind) => current[kind]);
    for (const kind of OVERLAYS) element(`show-${kind}`).closest(".overlay").classList.toggle("absent", !current[kind]);
    const settings = { name: "scan.nii.gz", colormap: "gray", cal_min: 0, cal_max: 255, trustCalMinMax: false };
    const volumes = [await niivue.NVImage.loadFromBase64({ base64: current.scan, ...settings })];
    for (const kind of shown) {
      const options = { ...settings, name: `${kind}.nii.gz`, opacity: opacity(kind) };
      if (kind === "doubt") Object.assign(options, { colormap: "doubt", cal_min: 254.9 });
      const volume = await niivue.NVImage.loadFromBase64({ base64: current[kind], ...options });
      if (kind === "doubt") volume.colormapType = 1; // opacity falls with the square of f / cal_min; colours begin at 0
      else volume.setColormapLabel(colours(kind));
      volumes.push(volume);
    }
    for (const volume of volumes) viewer.addVolume(volume);
    viewer.setSliceType(current.shape[2] === 1 ? viewer.sliceTypeAxial : viewer.sliceTypeMultiplanar);
    AXES.forEach((_, axis) => {
      element(`slice-${axis}`).max = current.shape[axis] - 1;
      element(`slice-${axis}`).closest("label").hidden = current.shape[axis] === 1;
    });
    const coarse = Math.max(...current.step) > 1;
    element("coarse").textContent = coarse ? `Each voxel here is the mean of ${current.step.join(" × ")} voxels of this scan. ` : "";
    place(current.focus);
    document.body.dataset.shown = current.name;
  }

  function number(axis, index) { // of the scan's slice in the middle of a voxel, from 1
    return current.start[axis] + index * current.step[axis] + Math.floor((current.step[axis] - 1) / 2) + 1;
  }
  function tell(voxel) {
    voxel.forEach((index, axis) => {
      element(`slice-${axis}`).value = index;
      element(`number-${axis}`).textContent = `${number(axis, index)} of ${current.full[axis]}`;
    });
  }
  function place(voxel) {
    viewer.scene.crosshairPos = voxel.map((index, axis) => (index + 0.5) / current.shape[axis]);
    tell(voxel);
    viewer.drawScene();
  }

  viewer.onLocationChange = (location) => {
    if (current) tell(AXES.map((_, axis) => Math.min(current.shape[axis] - 1, Math.max(0, Math.round(location.vox[axis])))));
  };
  for (const kind of OVERLAYS) {
    for (const id of [`show-${kind}`, `opacity-${kind}`]) {
      element(id).addEventListener("input", () => {
        if (shown.includes(kind)) viewer.setOpacity(1 + shown.indexOf(kind), opacity(kind));
      });
    }
  }
  AXES.forEach((_, axis) => {
    element(`slice-${axis}`).addEventListener("input", () => place(AXES.map((_, other) => Number(element(`slice-${other}`).value))));
  });
  const failed = (error) => {
    element("trouble").textContent = `The viewer cannot be shown (${error.message ?? error}); the pictures below can. It needs a browser with WebGL 2.`;
    element("trouble").hidden = false;
  };
  for (const button of document.querySelectorAll("button.case")) {
    button.addEventListener("click", () => show(Number(button.dataset.case)).catch(failed));
  }
  for (const button of document.querySelectorAll("button.jump")) {
    const found = cases.findIndex((entry) => entry.name === button.dataset.name);
    const axis = AXES.indexOf(button.dataset.axis);
    if (found < 0 || axis < 0) continue;
    button.disabled = false;
    button.addEventListener("click", async () => {
      if (current !== cases[found]) await show(found).catch(failed);
      const voxel = AXES.map((_, other) => Number(element(`slice-${other}`).value));
      const index = Math.floor((Number(button.dataset.index) - current.start[axis]) / current.step[axis]);
      voxel[axis] = Math.min(current.shape[axis] - 1, Math.max(0, index));
      place(voxel);
      element("viewer").scrollIntoView({ block: "start" });
    });
  }

  async function begin() {
    await viewer.attachTo("canvas");
    viewer.addColormap("doubt", {
      R: [80, 80, 183, 252, 252], G: [18, 18, 55, 137, 253], B: [123, 123, 121, 97, 191], A: [0, 255, 255, 255, 255], I: [0, 1, 85, 170, 255],
    });
    await show(0);
  }
  begin().catch(failed);
})();
