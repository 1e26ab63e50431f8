// A plot is drawn when it comes into view, in the colours of the page.
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function draw(plot) {
  const { data, layout } = JSON.parse(document.getElementById(plot.id + "-data").textContent);
  const narrow = plot.clientWidth < 500;
  Object.assign(layout, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    font: { color: style("--ink"), size: narrow ? 10 : 12 }, margin: { t: 28, r: 16, b: 48, l: 56, pad: 0 },
    legend: { orientation: "h", y: 1.08 }, hoverlabel: { namelength: -1 },
  });
  delete layout.width;
  delete layout.height;
  for (const name of Object.keys(layout).filter(name => /^[xy]axis/.test(name)))
    Object.assign(layout[name], { gridcolor: style("--line"), zerolinecolor: style("--line"), linecolor: style("--line"), automargin: true });
  for (const trace of data) if (trace.type === "heatmap") trace.textfont = { color: style("--ink") };
  for (const note of layout.annotations || []) note.font = { ...note.font, color: style("--soft") };
  Plotly.react(plot, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
}
const seen = new IntersectionObserver(entries => {
  for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
}, { rootMargin: "300px" });
document.querySelectorAll(".plot").forEach(plot => seen.observe(plot));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  document.querySelectorAll(".js-plotly-plot").forEach(draw));
